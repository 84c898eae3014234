"""OpenVINO: the fast path on a CPU."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import openvino
import torch

from engine.residual import embed_patches
from engine.runtimes.openvino_graph import build_graph
from engine.shapes import Hidden, PixelValues

STATES_BYTES: Final = 512 * 2**20
"""The hidden states of one batch may take so much: they exist all at once, in float32."""

_PRECISIONS: Final = {"float32": "f32", "bfloat16": "bf16"}
_FLOAT32_BYTES: Final = 4


class OpenVinoRuntime:
    """The encoder compiled for this CPU, once for every batch size.

    Patch and position embeddings, a hundredth of the work, stay with torch. In "bfloat16" products are taken
    in bfloat16 where the processor can, hidden states come out in float32.

    Each thread that streams at the same time has buffers of its own, up to STATES_BYTES.
    """

    name = "openvino"

    def __init__(self, vision: Any, dtype: str) -> None:
        self._vision = vision
        config = vision.config
        tokens = vision.embeddings.num_patches
        self._settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # two workers of one machine would pin their threads to the same cores
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino.Core().compile_model(build_graph(vision, tokens), "CPU", self._settings)
        self._idle: deque[openvino.InferRequest] = deque()
        self._layers = config.num_hidden_layers
        image_bytes = (self._layers + 1) * tokens * config.hidden_size * _FLOAT32_BYTES
        self.most_images: int | None = max(1, STATES_BYTES // image_bytes)

    @torch.no_grad()
    def stream(self, pixel_values: PixelValues) -> Iterator[Hidden]:
        """hidden_states[0..L] float32, once the whole pass is done."""
        first = embed_patches(self._vision, pixel_values).contiguous()
        request = self._take_request()
        try:
            request.infer({0: first.numpy()}, share_inputs=True)
            yield first
            for layer in range(self._layers - 1):
                yield _output(request, layer)
            # a copy: the last one is read on when the stream has ended, and another one has the buffers
            last = _output(request, self._layers - 1).clone()
        finally:
            # not a lock: a stream that nobody reads to its end, Ctrl-C, must not keep others waiting
            self._idle.append(request)
        yield last

    def _take_request(self) -> openvino.InferRequest:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def describe(self) -> dict[str, Any]:
        """OpenVINO's version and what it was asked for."""
        return {
            "openvino": openvino.get_version(),
            "openvino_precision": self._settings["INFERENCE_PRECISION_HINT"],
            "attention": "openvino",
        }


def _output(request: openvino.InferRequest, layer: int) -> Hidden:
    """hidden_states[layer + 1], in the request's own memory."""
    return torch.from_numpy(np.asarray(request.get_output_tensor(layer).data))
