"""One base model, loaded once in a process, and any of its LoRA adapters, swapped in while it is needed.

Outside an `adapter` block the model is the bare base: no wrapper, no hook, no gradient. With dtype auto a GPU computes
in bfloat16 and a CPU in the faster of bfloat16 and float32, as measured once (device). Attention is written out
("eager") on a CPU, where it is faster for short rows than the fused kernel, and fused on a GPU.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from spillover.config.study import ModelConfig
from spillover.errors import MachineError, UserError
from spillover.models import check_model_path
from spillover.models.embedded import weights
from spillover.models.embedded.checks import quiet
from spillover.models.hf.device import four_bit, keep_plain, measured, release_memory
from spillover.models.hf.hooks import Blocks, find_blocks
from spillover.models.tokens import plain_ids

if TYPE_CHECKING:
    from spillover.models.hf.adapters import Layers
    from spillover.models.hf.forward_reader import HFReader
    from spillover.models.hf.generate import HFGenerator
    from spillover.models.hf.train import HFTrainer


_RESIDENT_ADAPTERS = 4
_RESIDENT_MODELS = 2


class LoadedModel:
    """`model` is the bare base in eval mode; `source` is the hub id or name, `revision` what exactly was loaded."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, source: str, revision: str
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.source = source
        self.revision = revision
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.quantized = getattr(model, "is_loaded_in_4bit", False)  # then an adapter cannot be merged
        self.packs = False  # whether packed rows were checked to give the model's logits
        self._residents: OrderedDict[tuple[str, int, int], Layers] = OrderedDict()
        self._busy = False

    @cached_property
    def blocks(self) -> Blocks:
        """The decoder's blocks, found and checked on first use."""
        return find_blocks(self.model)

    @property
    def window(self) -> int:
        """How many tokens fit such that each attends to all before it; beyond it some layers would have to forget."""
        return window_of(self.model.config)

    @contextmanager
    def adapter(self, path: Path | None) -> Generator[PreTrainedModel]:
        """The model with the adapter in folder `path` active; None is the bare base."""
        with self.claim():
            if path is None:
                yield self.model
                return
            from spillover.models.hf.adapters import swap

            bare = swap(self.model, self._layers(path))
            try:
                yield self.model
            finally:
                swap(self.model, bare)

    @contextmanager
    def claim(self) -> Generator[None]:
        """Hold the model exclusively: two adapters at once would silently mix."""
        if self._busy:
            raise RuntimeError(f"{self.name} is in use: leave one adapter block before entering the next")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _layers(self, path: Path) -> Layers:
        from spillover.models.hf.adapters import WEIGHTS, load_layers

        file = path / WEIGHTS
        stamp = file.stat() if file.is_file() else None
        key = (str(path.resolve()), stamp.st_mtime_ns, stamp.st_size) if stamp else (str(path), 0, 0)
        if key not in self._residents:
            self._residents[key] = load_layers(self.model, path)
        self._residents.move_to_end(key)
        while len(self._residents) > _RESIDENT_ADAPTERS:
            self._residents.popitem(last=False)
        return self._residents[key]


_loaded: OrderedDict[tuple[str, str | None, str, str, str], LoadedModel] = OrderedDict()


def load_model(config: ModelConfig) -> LoadedModel:
    """Load the base that `config` names, or return it if this process holds it.

    Raises:
        UserError: no such model, no safetensors, or a model that needs custom code.
        MachineError: corrupted weights, no such device.
    """
    key = (config.path or config.name, config.revision, config.dtype, config.device, config.quantize)
    if key not in _loaded:
        while len(_loaded) >= _RESIDENT_MODELS:
            _loaded.popitem(last=False)
        _loaded[key] = _load(config)
    _loaded.move_to_end(key)
    return _loaded[key]


def _load(config: ModelConfig) -> LoadedModel:
    device = _device(config.device)
    source = find_source(config)
    with _readable(config, source):
        settings = AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        dtype = _dtype(config.dtype, device, settings)
        quantization = four_bit(dtype) if config.quantize == "4bit" else None
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=config.revision,
            dtype=dtype,
            attn_implementation="sdpa" if device.type == "cuda" else "eager",
            use_safetensors=True,
            trust_remote_code=False,
            quantization_config=quantization,
            device_map=None if quantization is None else {"": device},
        )
    if quantization is not None:
        keep_plain(model)
    else:
        nn.Module.to(model, device)
        if device.type == "cpu" and model.dtype == torch.float32:
            _store_by_columns(model)
        release_memory()  # conversion leaves more than half of the weights' size unused
    revision = revision_of(config, source, model.config)
    return LoadedModel(model, tokenizer, config.name, config.path or config.name, revision)


def release() -> None:
    """Release every model that this process holds."""
    _loaded.clear()


def find_source(config: ModelConfig) -> str:
    """Where a model's files are: the folder (of an embedded model: in the cache), or the hub id.

    Raises:
        UserError: when the path does not lead to a model.
    """
    if config.path is None:
        return str(weights.ensure(config.name))
    check_model_path(config.path)
    local = Path(config.path).expanduser()
    return str(local) if local.is_dir() else config.path


def read_tokenizer(config: ModelConfig, source: str) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """A model's tokenizer and configuration, without its weights."""
    with _readable(config, source):
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        settings = AutoConfig.from_pretrained(source, revision=config.revision, trust_remote_code=False)
    return tokenizer, settings


def revision_of(config: ModelConfig, source: str, settings: PretrainedConfig) -> str:
    """The exact version of a model: a hash of its files, or the hub's commit."""
    if config.path is None:
        return weights.embedded(config.name).revision
    return _fingerprint(Path(source)) if Path(source).is_dir() else str(settings._commit_hash)


def window_of(settings: PretrainedConfig) -> int:
    """How many tokens fit such that each attends to all before it."""
    text = settings.get_text_config()
    limits: list[int] = [text.max_position_embeddings]
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        limits.append(text.sliding_window)
    return min(limits)


@contextmanager
def _readable(config: ModelConfig, source: str) -> Generator[None]:
    """Turn errors of transformers into errors that state what to do."""
    try:
        with quiet():
            yield
    except SafetensorError as error:
        raise MachineError(f"The weights in {source} are corrupted ({error}). Download them again.") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"Model {config.name!r} ({source}) cannot be loaded: {str(error).strip().splitlines()[0]} "
            "Give an embedded name, a folder, or a hub id that this machine can reach."
        ) from None


def _device(wanted: str) -> torch.device:
    try:
        device = (
            torch.device("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else torch.device(wanted)
        )
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MachineError(f"Device {wanted!r} cannot be used ({reason}). Set device: auto or cpu.") from None
    return device


def _dtype(wanted: str, device: torch.device, settings: PretrainedConfig) -> torch.dtype:
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    text = settings.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return getattr(torch, measured(text.hidden_size, inner).faster_dtype)


def compute_info(dtype: torch.dtype, device: torch.device) -> dict[str, str]:
    """What can make the same study come out differently on another machine, as recorded in a run."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"dtype": str(dtype).removeprefix("torch."), "device": gpu, "torch": torch.__version__}


def _store_by_columns(model: PreTrainedModel) -> None:
    """Store the weights of the linear layers by columns, with the same values.

    x W' then needs no transposition inside the product: 1.4 times as fast for 45 rows of x, twice for 8, equal for 500.
    The head keeps its layout, because the embeddings that share it are looked up by rows.
    """
    head = model.get_output_embeddings()
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer is not head:
            layer.weight.data = layer.weight.data.t().contiguous().t()


def _fingerprint(folder: Path) -> str:
    """Hash of a local model's configuration and weights, which distinguishes checkpoints of the same shape."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return "sha256:" + digest.hexdigest()[:12]


class HFBackend:
    """The four protocols on one loaded base."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.name = loaded.source
        self.revision = loaded.revision

    @property
    def compute_info(self) -> dict[str, str]:
        return compute_info(self.loaded.dtype, self.loaded.device)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in this model's tokens, without special tokens."""
        return [len(ids) for ids in self.token_ids(texts)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """This model's tokens of each text, without special tokens."""
        return plain_ids(self.loaded.tokenizer, texts)

    def trainer(self) -> HFTrainer:
        from spillover.models.hf.train import HFTrainer

        return HFTrainer(self.loaded)

    def generator(self) -> HFGenerator:
        from spillover.models.hf.generate import HFGenerator

        return HFGenerator(self.loaded)

    def scorer(self) -> HFReader:
        from spillover.models.hf.forward_reader import HFReader

        return HFReader(self.loaded)

    def reader(self) -> HFReader:
        from spillover.models.hf.forward_reader import HFReader

        return HFReader(self.loaded)


def open_backend(config: ModelConfig) -> HFBackend:
    """Load the base that `config` names."""
    return HFBackend(load_model(config))
