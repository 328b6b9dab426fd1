"""Keep frames by Eq. 1-3 without a score net: what DPE's events are worth by themselves."""

from jaxtyping import Float
from torch import Tensor

from dynfocus.method.events import find_events
from dynfocus.method.score import rescale
from dynfocus.method.selectors.base import FrameSelector
from dynfocus.types import FrameSketch, SelectorInputs


class DensityPeakSelector(FrameSelector):
    """The frames with the largest product of density and distance (DPC-KNN), rho_t delta_t of Eq. 1-2.

    DPE takes its L representatives so; here it is the whole choice. O(T^2 f).

    Source: Du, Ding and Jia, Study on density peaks clustering based on k-nearest neighbors, 2016; paper, Eq. 1-2.
    """

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        events = find_events(sketch, self.settings)
        return events.distance.clamp(min=1e-30).log() - events.spread.clamp(max=1e30)


class GrainSpreadSelector(FrameSelector):
    """The event representatives whose grains differ most within the frame: frames with several things in them.

    The spread is the variance of the first spatial layer's prototypes of a frame. Frames that are no representative
    come after all that are. O(T^2 f).

    Source: this project; a rule without training that the embedded world is measured with.
    """

    def rank(self, sketch: FrameSketch, inputs: SelectorInputs) -> Float[Tensor, "B T"]:
        events = find_events(sketch, self.settings)
        fine = sketch.grains[:, :, : self.settings.spatial_prototypes[0]].float()
        spread = fine.var(2, correction=0).mean(-1)
        first = sketch.mask.new_zeros(sketch.mask.shape).scatter(1, events.frames, events.mask)
        return 2.0 * first + rescale(spread, sketch.mask)
