"""What is known of the visual quality of a batch's variants. How it is measured: `visual_quality`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MeasuredQuality:
    """What is known of the batch's sample; scores in points of the metric.

    Attributes:
        photos: Distinct photos in the sample.
        measured: Variants that this run measured.
        reused: Variants that an earlier run had measured.
        mean: Mean score of both; None without any.
        worst: Lowest score of both; None without any.
        not_measured: The reason for each variant that has no score, by photo and format.
    """

    photos: int = 0
    measured: int = 0
    reused: int = 0
    mean: float | None = None
    worst: float | None = None
    not_measured: dict[str, str] = field(default_factory=dict)
