"""The recipes, as YAML files that come with the installed package."""
