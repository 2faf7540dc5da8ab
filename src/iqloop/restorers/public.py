"""Public restoration checkpoints by name: well-known ones, of architectures that spandrel's main package detects.

None of them is in the package: `iqloop models pull NAME` fetches one from where it is published. Addresses, sizes and
checksums are as public catalogues record them, OpenModelDB (https://github.com/OpenModelDB/open-model-database) first;
a checksum that none records is None. NAFNet's authors publish on file hosters that no program can fetch from: those are
taken from a copy on the Hugging Face hub, and the checksum is that of the authors' files.

A licence of weights is what a model card or OpenModelDB says of the file itself; ``unknown`` where only the project's
code has one. Weights whose licence forbids commercial use are left out; what the data sets behind the others ask for
is theirs to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iqloop.restorers.tool import Cost, Treatment

MEDIUM = 8_000_000
"""Bytes of the two million parameters from which on a network is heavy, as in `iqloop.restorers.spandrel_tool`."""


@dataclass(frozen=True)
class PublicWeights:
    """A checkpoint and what is known of it before it is fetched."""

    name: str
    """What tools are called by: one word."""
    treats: tuple[Treatment, ...]
    architecture: str
    """spandrel's id of it; what is fetched must be detected as this."""
    bytes: int
    sha256: str | None
    """Of the file; None if no public catalogue records it."""
    code_licence: str
    """SPDX identifier of the architecture's code, which spandrel contains."""
    weights_licence: str
    """SPDX identifier, or ``unknown``."""
    paper: str
    """Authors and year."""
    summary: str
    """One line: what it was trained on or for."""
    strength: float
    """As in `iqloop.restorers.tool.ToolInfo`."""
    scale: int = 1
    repository: str = ""
    """On the Hugging Face hub; with ``filename``. Empty if there is a ``url``."""
    filename: str = ""
    revision: str = "main"
    """Of the repository; the checksum decides what is accepted, not the branch."""
    url: str = ""
    """Elsewhere; https."""

    @property
    def address(self) -> str:
        """Where the file is fetched from."""
        if self.url:
            return self.url
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repository}/resolve/{self.revision}/{self.filename}"

    @property
    def origin(self) -> str:
        """For people: the repository, on the hub or elsewhere."""
        return self.repository or self.url.removeprefix("https://").partition("/releases/")[0]

    @property
    def has_licence(self) -> bool:
        """Whether anybody has said the weights' licence."""
        return self.weights_licence != "unknown"

    @property
    def suffix(self) -> str:
        """``.safetensors`` or ``.pth``."""
        return PurePosixPath(self.filename or self.url).suffix

    @property
    def cost(self) -> Cost:
        """As in `iqloop.restorers.tool.ToolInfo`."""
        return "medium" if self.bytes < MEDIUM else "heavy"


_KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0/"
_SWINIR = "https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/"
_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
_HOFMANN = "https://github.com/Phhofm/models/releases/download/"
_NAFNET = "nyanko7/nafnet-models"

_TABLE = (
    PublicWeights(
        "scunet-psnr",
        ("noise",),
        "SCUNet",
        71_982_841,
        "fa78899ba2caec9d235a900e91d96c689da71c42029230c2028b00f09f809c2e",
        "Apache-2.0",
        "unknown",
        "Zhang et al. 2022",
        "blind, real noise, trained for fidelity",
        strength=0.6,
        url=_KAIR + "scunet_color_real_psnr.pth",
    ),
    PublicWeights(
        "scunet-gan",
        ("noise",),
        "SCUNet",
        71_982_835,
        "892c83f812c59173273b74f4f34a14ecaf57a2fdb68df056664589beb55c966e",
        "Apache-2.0",
        "unknown",
        "Zhang et al. 2022",
        "blind, real noise, adversarial: crisper, and invents texture",
        strength=0.8,
        url=_KAIR + "scunet_color_real_gan.pth",
    ),
    PublicWeights(
        "scunet-noise25",
        ("noise",),
        "SCUNet",
        71_982_761,
        "6b4e572fe69b1530aade8b7856b18b9e6ddf9cf2bd87c21bf045b51662096320",
        "Apache-2.0",
        "unknown",
        "Zhang et al. 2022",
        "Gaussian noise of sigma 25",
        strength=0.5,
        url=_KAIR + "scunet_color_25.pth",
    ),
    PublicWeights(
        "scunet-noise50",
        ("noise",),
        "SCUNet",
        71_982_757,
        "11f6839726c10dad327a75ce578be661a3e208f01fd7ab6d3eb763a5464bfdfe",
        "Apache-2.0",
        "unknown",
        "Zhang et al. 2022",
        "Gaussian noise of sigma 50",
        strength=0.9,
        url=_KAIR + "scunet_color_50.pth",
    ),
    PublicWeights(
        "swinir-noise15",
        ("noise",),
        "SwinIR",
        122_905_743,
        "917cd972f7ba80786871add249ad43e4477ce2db59b4ad63e2fa446f7221d013",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "Gaussian noise of sigma 15",
        strength=0.3,
        url=_SWINIR + "005_colorDN_DFWB_s128w8_SwinIR-M_noise15.pth",
    ),
    PublicWeights(
        "nafnet-sidd32",
        ("noise",),
        "NAFNet",
        116_861_841,
        "89c70e808d1783b6c07911306e106aaf0d4f7f3da8c61078b99ff7f8929a26f4",
        "MIT",
        "unknown",
        "Chen et al. 2022",
        "noise of phone cameras (SIDD), width 32",
        strength=0.5,
        repository=_NAFNET,
        filename="NAFNet-SIDD-width32.pth",
    ),
    PublicWeights(
        "nafnet-sidd64",
        ("noise",),
        "NAFNet",
        464_154_961,
        "cd685efaae01f7c4e9951f2deab05780079c8eb1e49ed664b72f6db04dabb445",
        "MIT",
        "unknown",
        "Chen et al. 2022",
        "noise of phone cameras (SIDD), width 64",
        strength=0.6,
        repository=_NAFNET,
        filename="NAFNet-SIDD-width64.pth",
    ),
    PublicWeights(
        "realplksr-denoise",
        ("noise",),
        "PLKSR",
        29_486_580,
        "0a3e22bdcb70dd790fce66f45df8d07e774e269b17c92a2835162b150d4a365c",
        "MIT",
        "CC-BY-4.0",
        "Lee et al. 2024",
        "noise and some JPEG of photographs, by P. Hofmann",
        strength=0.7,
        url=_HOFMANN + "1xDeNoise_realplksr_otf/1xDeNoise_realplksr_otf.safetensors",
    ),
    PublicWeights(
        "fbcnn",
        ("compression",),
        "FBCNN",
        287_755_111,
        "8b0e4ef23d59cf7ac934a342cb31a17619e4fa4a0b3374a9d78c5174312387e8",
        "Apache-2.0",
        "unknown",
        "Jiang et al. 2021",
        "JPEG, also saved twice; estimates the quality itself",
        strength=0.6,
        url="https://github.com/jiaxi-jiang/FBCNN/releases/download/v1.0/fbcnn_color.pth",
    ),
    PublicWeights(
        "swinir-jpeg40",
        ("compression",),
        "SwinIR",
        102_873_665,
        "265c18d8809aaca0cd97a6283bee0ed1883ab88395e456381264cac2bb7b5867",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "JPEG of quality 40",
        strength=0.4,
        url=_SWINIR + "006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg40.pth",
    ),
    PublicWeights(
        "swinir-jpeg10",
        ("compression",),
        "SwinIR",
        102_873_665,
        "0005b707e0e6f75b4d13c7447e2f184858ddbdcec95aa7eb8c07e8afa1d26bd9",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "JPEG of quality 10",
        strength=0.9,
        url=_SWINIR + "006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg10.pth",
    ),
    PublicWeights(
        "realplksr-dejpeg",
        ("compression",),
        "PLKSR",
        29_486_580,
        "bfc0b9a1163bf20eb18479e1f4faa0ece1b4d5ce59759be8b843d6ef32d1890f",
        "MIT",
        "CC-BY-4.0",
        "Lee et al. 2024",
        "JPEG down to quality 40, saved twice, by P. Hofmann",
        strength=0.7,
        url=_HOFMANN + "1xDeJPG_realplksr_otf/1xDeJPG_realplksr_otf.safetensors",
    ),
    PublicWeights(
        "nafnet-gopro32",
        ("blur",),
        "NAFNet",
        68_671_121,
        "19394e6155d12ef6371d1d57496f87f0ec88f92bdffa27c0792690722d5d1a5c",
        "MIT",
        "unknown",
        "Chen et al. 2022",
        "motion blur (GoPro), width 32",
        strength=0.6,
        repository=_NAFNET,
        filename="NAFNet-GoPro-width32.pth",
    ),
    PublicWeights(
        "nafnet-gopro64",
        ("blur",),
        "NAFNet",
        271_778_961,
        "329d3ab4077b8d6b7ff61de376e483714667960bf85be027bf4335cda701196f",
        "MIT",
        "unknown",
        "Chen et al. 2022",
        "motion blur (GoPro), width 64",
        strength=0.7,
        repository=_NAFNET,
        filename="NAFNet-GoPro-width64.pth",
    ),
    PublicWeights(
        "nafnet-reds64",
        ("blur", "compression"),
        "NAFNet",
        271_756_689,
        "175fe8b3cdf3abedfbc87769779c3d9f491e05bb2e73ea9d627883f90a4b2df3",
        "MIT",
        "unknown",
        "Chen et al. 2022",
        "motion blur of compressed frames (REDS), width 64",
        strength=0.8,
        repository=_NAFNET,
        filename="NAFNet-REDS-width64.pth",
    ),
    PublicWeights(
        "fftformer",
        ("blur",),
        "FFTformer",
        66_441_171,  # of the copy in the project's repository; nobody records the release's own
        None,
        "MIT",
        "unknown",
        "Kong et al. 2023",
        "motion blur (GoPro)",
        strength=0.7,
        url="https://github.com/kkkls/FFTformer/releases/download/pretrain_model/fftformer_GoPro.pth",
    ),
    PublicWeights(
        "hvi-cidnet",
        ("darken",),
        "HVICIDNet",
        7_920_332,
        "2291407125e809cc9c0614cc2d010d21d309a66eb3da33e1ee2386a68fa05894",
        "MIT",
        "MIT",
        "Yan et al. 2025",
        "low light, the weights for photographs of any source",
        strength=0.7,
        repository="Fediory/HVI-CIDNet-Generalization",
        filename="model.safetensors",
        revision="51481ef2546f870060c43eb6d6525399f5b3d2d3",
    ),
    PublicWeights(
        "span-x2",
        ("low-resolution",),
        "SPAN",
        4_461_056,
        "bee2a9c082f2b8f6e7f5db504b36593c24a1a959511f587114c399ca58b9c92c",
        "Apache-2.0",
        "CC-BY-4.0",
        "Wan et al. 2024",
        "small and fast, mends JPEG too, by P. Hofmann",
        strength=0.6,
        scale=2,
        repository="Phips/2xNomosUni_span_multijpg",
        filename="2xNomosUni_span_multijpg.safetensors",
    ),
    PublicWeights(
        "swinir-light-x2",
        ("low-resolution",),
        "SwinIR",
        17_147_989,
        "193b229909ca89cd8b55de9c9e7fce146ae759d59dfcd78d8feb9dd1d6fa0fd7",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "clean images, trained for fidelity, small",
        strength=0.3,
        scale=2,
        url=_SWINIR + "002_lightweightSR_DIV2K_s64w8_SwinIR-S_x2.pth",
    ),
    PublicWeights(
        "swinir-x2",
        ("low-resolution",),
        "SwinIR",
        67_277_475,
        "2032ebf8f401dd3ce2fae5f3852117cb72101ec6ed8358faa64c2a3fa09ed4ac",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "clean images, trained for fidelity",
        strength=0.4,
        scale=2,
        url=_SWINIR + "001_classicalSR_DF2K_s64w8_SwinIR-M_x2.pth",
    ),
    PublicWeights(
        "realesrgan-x2",
        ("low-resolution",),
        "ESRGAN",
        67_061_725,
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        "BSD-3-Clause",
        "BSD-3-Clause",
        "Wang et al. 2021",
        "real photographs, adversarial: sharp, and invents texture",
        strength=0.8,
        scale=2,
        url=_ESRGAN + "v0.2.1/RealESRGAN_x2plus.pth",
    ),
    PublicWeights(
        "swinir-real-x4",
        ("low-resolution",),
        "SwinIR",
        67_129_849,
        "1fd8fed99684bd271db55563e4906d36459cf535446820053f7a1081d4781dc5",
        "Apache-2.0",
        "unknown",
        "Liang et al. 2021",
        "real photographs, trained for fidelity",
        strength=0.5,
        scale=4,
        url=_SWINIR + "003_realSR_BSRGAN_DFO_s64w8_SwinIR-M_x4_PSNR.pth",
    ),
    PublicWeights(
        "dat2-x4",
        ("low-resolution",),
        "DAT",
        140_196_334,
        "1f2be2b4786b5031776aed90e1818564f5576ab1e44da9355c7f3788ea25bdea",
        "Apache-2.0",
        "CC-BY-4.0",
        "Chen et al. 2023",
        "undamaged photographs, slow, by P. Hofmann",
        strength=0.6,
        scale=4,
        url=_HOFMANN + "4xNomos2_hq_dat2/4xNomos2_hq_dat2.pth",
    ),
    PublicWeights(
        "realesr-general-x4",
        ("low-resolution",),
        "Compact",
        4_885_111,
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        "BSD-3-Clause",
        "BSD-3-Clause",
        "Wang et al. 2021",
        "real photographs, small and fast",
        strength=0.7,
        scale=4,
        url=_ESRGAN + "v0.2.5.0/realesr-general-x4v3.pth",
    ),
    PublicWeights(
        "realesrgan-x4",
        ("low-resolution",),
        "ESRGAN",
        67_040_989,
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        "BSD-3-Clause",
        "BSD-3-Clause",
        "Wang et al. 2021",
        "real photographs, adversarial: sharp, and invents texture",
        strength=0.9,
        scale=4,
        url=_ESRGAN + "v0.1.0/RealESRGAN_x4plus.pth",
    ),
)

PUBLIC: dict[str, PublicWeights] = {weights.name: weights for weights in _TABLE}
"""By name, in the order of what they treat, gentle first."""
