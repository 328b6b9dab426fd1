"""What is set before the towers of the embedded world are trained."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LanguageSettings:
    """Size and training of the language model; the shares of the rows need not sum to one."""

    width: int = 64
    layers: int = 4
    heads: int = 4
    hidden: int = 128
    init: float = 0.1
    steps: int = 1200
    first: float = 0.22  # share of the steps that see single frames, text and short streams alone
    batch: int = 16
    pool: int = 5000
    rate: float = 3e-3
    clip: float = 1.0
    tie: bool = False
    muon: bool = True
    decay: float = 0.0
    theta: float = 10000.0
    muon_rate: float = 6e-3
    warm: float = 0.1
    anneal: str = 'cos'
    share_image: float = 0.10
    share_text: float = 0.06
    share_caption: float = 0.12
    share_order: float = 0.1
    early_order: float = 0.2
    things: int = 4
    times: int = 4
    extra: int = 4
    held_out: int = 200
