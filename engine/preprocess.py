"""Pictures to pixel values: Pillow's resize and a table, bit for bit the checkpoint's own processor."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.errors import InvalidArgumentError, ModelLoadFailedError
from engine.shapes import PixelBatch, PixelTable, PixelValues
from pictures.convert import squash, to_rgb

_EXPECTED: Final = "expected a PIL image, a list of them, or a uint8 or float tensor [3, height, width]"


@dataclass(frozen=True)
class PixelPath:
    """How this checkpoint's pictures become numbers, read from its preprocessor config.

    `table[c, v]` is the pixel value of byte v in channel c: (v * rescale_factor - mean[c]) / std[c], computed
    once by the checkpoint's own image processor, so that a lookup equals it bit for bit.
    """

    side: int
    resample: int
    table: PixelTable
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """For provenance: whatever changes a pixel."""
        return {
            "backend": "pillow",
            "mode": "exact",
            "pillow": PIL.__version__,
            "resample": Image.Resampling(self.resample).name.lower(),
            "image_size": self.side,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def read_pixel_path(image_processor: Any, image_size: int) -> PixelPath:
    """The pixel path of a checkpoint whose vision tower reads `image_size` x `image_size` pixels.

    Raises:
        ModelLoadFailedError: the preprocessor config asks for something else than resize to that square,
            rescale and normalise.
    """
    steps = (image_processor.do_resize, image_processor.do_rescale, image_processor.do_normalize)
    size = image_processor.size
    if not all(steps) or (size.height, size.width) != (image_size, image_size):
        raise ModelLoadFailedError(
            f"preprocessor_config.json does not resize to {image_size} x {image_size}, rescale and "
            "normalise: it is not that of this checkpoint. Fetch the file again."
        )
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :], 3, axis=0)
    processed = image_processor(
        ramp, do_resize=False, do_convert_rgb=False, input_data_format="channels_first", return_tensors="pt"
    )["pixel_values"]
    return PixelPath(
        side=image_size,
        resample=int(image_processor.resample),
        table=processed.reshape(3, 256).to(torch.float32),
        mean=tuple(float(value) for value in image_processor.image_mean),
        std=tuple(float(value) for value in image_processor.image_std),
    )


def normalize(path: PixelPath, image: object) -> PixelValues:
    """Pixel values [batch, 3, side, side] of one picture or several.

    A PIL picture of any mode is turned upright, made RGB and squashed to the square. A uint8 tensor
    [3, height, width] is taken as RGB bytes. A float tensor [3, height, width] is taken as RGB in 0..1, is
    never rounded to bytes, and is squashed by the same filter when its size differs.

    Raises:
        InvalidArgumentError: anything else; its `path` is the picture's index.
    """
    pictures = _listed(image)
    batch = torch.empty((len(pictures), 3, path.side, path.side), dtype=torch.float32)
    table = path.table.numpy()
    for index, (row, picture) in enumerate(zip(batch, pictures, strict=True)):
        with _located(index):
            if isinstance(picture, torch.Tensor) and picture.is_floating_point():
                row.copy_(_normalize_floats(path, _checked(picture).to(torch.float32)))
            else:
                look_up(table, _bytes_of(path, picture), row.numpy())
    return batch


def pixel_bytes(path: PixelPath, image: object, *, pinned: bool = False) -> PixelBatch:
    """The RGB bytes [batch, 3, side, side] that `normalize` looks up: a quarter of what they become.

    `look_up_batch` makes the same pixel values of them, on the device that they were copied to. `pinned` puts
    them where a GPU can fetch them while the processor goes on.

    Raises:
        InvalidArgumentError: what `normalize` refuses, and float tensors, which are no bytes.
    """
    pictures = _listed(image)
    shape = (len(pictures), 3, path.side, path.side)
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
    for index, (row, picture) in enumerate(zip(batch, pictures, strict=True)):
        with _located(index):
            row.numpy()[...] = _bytes_of(path, picture)
    return batch


def look_up_batch(table: PixelTable, pixels: PixelBatch) -> PixelValues:
    """Pixel values [batch, 3, side, side] of RGB bytes, in the table's dtype; both on one device, any."""
    # a channel's row begins at 256 times its number
    rows = 256 * torch.arange(3, dtype=torch.int32, device=pixels.device)[:, None, None]
    places = pixels.to(torch.int32) + rows
    return table.flatten().index_select(0, places.flatten()).reshape(pixels.shape)


def look_up(table: NDArray[np.float32], pixels: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Write the pixel values of RGB bytes [3, side, side], in any memory order, into `out`."""
    for channel in range(3):
        # no byte is out of range; `wrap` is the mode that numpy checks fastest
        np.take(table[channel], pixels[channel], out=out[channel], mode="wrap")


@contextmanager
def _located(index: int) -> Iterator[None]:
    try:
        yield
    except InvalidArgumentError as fault:
        fault.path = (index,)
        raise


def _listed(image: object) -> Sequence[object]:
    if isinstance(image, (Image.Image, torch.Tensor)):
        return [image]
    if isinstance(image, Iterable) and not isinstance(image, (str, bytes)):
        return image if isinstance(image, Sequence) else list(image)
    raise InvalidArgumentError("image", f"{_EXPECTED}, not {type(image).__name__}")


def _checked(image: torch.Tensor) -> torch.Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:  # noqa: PLR2004 - [3, height, width]
        raise InvalidArgumentError("image", f"{_EXPECTED}, not a tensor of shape {list(image.shape)}")
    return image.detach().cpu()


def _bytes_of(path: PixelPath, image: object) -> NDArray[np.uint8]:
    """RGB bytes [3, side, side]; a view of those that a picture holds as [side, side, 3]."""
    if isinstance(image, torch.Tensor):
        image = _checked(image)
        if image.dtype != torch.uint8:
            raise InvalidArgumentError("image", f"{_EXPECTED}, not a tensor of {image.dtype}")
        if image.shape[1:] == (path.side, path.side):
            return image.numpy()
        image = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    if not isinstance(image, Image.Image):
        raise InvalidArgumentError("image", f"{_EXPECTED}, not {type(image).__name__}")
    if 0 in image.size:
        raise InvalidArgumentError("image", "has no pixels")
    try:
        square = squash(to_rgb(image), path.side, path.resample)
    except (OSError, ValueError) as fault:
        raise InvalidArgumentError("image", f"cannot be made RGB: {fault}") from fault
    return np.asarray(square).transpose(2, 0, 1)


def _normalize_floats(path: PixelPath, image: torch.Tensor) -> torch.Tensor:
    if not bool(((image >= 0.0) & (image <= 1.0)).all()):
        raise InvalidArgumentError("image", "a float tensor holds RGB in 0..1, without NaN")
    if image.shape[1:] != (path.side, path.side):
        bands = [Image.fromarray(band.numpy()) for band in image]
        resized = [torch.from_numpy(np.array(squash(band, path.side, path.resample))) for band in bands]
        # Cubic filters overshoot; on bytes Pillow clips as well.
        image = torch.stack(resized).clamp(0.0, 1.0)
    mean, std = torch.tensor(path.mean)[:, None, None], torch.tensor(path.std)[:, None, None]
    return (image - mean) / std
