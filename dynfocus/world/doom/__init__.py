"""Record walks through ViZDoom's levels as videos, and ask what they show: a world that the project did not draw."""
