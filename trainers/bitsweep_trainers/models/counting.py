"""Layers as arithmetic: the MACs and weights of a convolution and of a linear map."""

from dataclasses import dataclass

from bitsweep.cost import Layer, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A square convolution as the counts see it; `padding` on all four sides.

    With as many groups as channels it is depthwise.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def output(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what it gives."""
        reach = 2 * self.padding - self.kernel
        return (height + reach) // self.stride + 1, (width + reach) // self.stride + 1

    def layer(
        self,
        name: str,
        place: Place,
        *,
        output: tuple[int, int],
        has_signed_input: bool = False,
    ) -> Layer:
        """MACs = C_in * C_out * k * k * H_out * W_out / groups; a batch norm follows: no bias."""
        weights = self.in_channels * self.out_channels * self.kernel**2 // self.groups
        return Layer(
            name=name,
            kind="conv" if self.groups == 1 else "depthwise",
            place=place,
            macs=weights * output[0] * output[1],
            weights=weights,
            norm_channels=self.out_channels,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            groups=self.groups,
            has_signed_input=has_signed_input,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution1d:
    """A convolution over a series, with stride 1 and padding that keeps its length."""

    in_channels: int
    out_channels: int
    kernel: int

    def layer(self, name: str, place: Place, *, length: int) -> Layer:
        """MACs = C_in * C_out * k * L_out; a batch norm follows, so no bias."""
        weights = self.in_channels * self.out_channels * self.kernel
        return Layer(
            name=name,
            kind="conv1d",
            place=place,
            macs=weights * length,
            weights=weights,
            norm_channels=self.out_channels,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
        )


def linear(
    name: str, place: Place, in_channels: int, out_channels: int, *, is_normed: bool = False
) -> Layer:
    """A linear map, with a batch norm or else a bias behind it; MACs = weights = in * out."""
    return Layer(
        name=name,
        kind="linear",
        place=place,
        macs=in_channels * out_channels,
        weights=in_channels * out_channels,
        biases=0 if is_normed else out_channels,
        norm_channels=out_channels if is_normed else 0,
        in_channels=in_channels,
        out_channels=out_channels,
    )
