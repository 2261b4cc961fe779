"""The files of the public data sets: addresses, sizes and checksums of the archives, and files without an address.

COCO 2017: addresses of https://cocodataset.org/#download (http, because the certificate is for another host name; the MD5
sums protect the contents). Sizes are the servers' Content-Length in public logs and file lists; the MD5 sums are those on which
several public downloaders agree.
MPII: addresses and rounded sizes of https://human-pose.mpi-inf.mpg.de/#download; exact sizes and checksums are not published.
LSP, LSPET: addresses of https://sam.johnson.io/research/lsp.html and lspet.html, which users have reported as unreachable
since 2020; neither sizes nor checksums are published, and `about` is our guess.
The unpacked layouts of MPII, LSP and LSPET are taken from public set-up scripts and loaders. We have not fetched any of these
archives from its address ourselves.
None stands for a value that we did not find; `verify` then says that it could not check it.
"""

from dataclasses import dataclass

from mdw.util.words import unknown


@dataclass(frozen=True)
class Archive:
    """One zip or tar(.gz) file of a data set.

    `part`: its name on the command line; `size` (bytes) and `md5` are exact where known. `about`: the rounded size; `unpacked`:
    our upper bound of the unpacked size in bytes, which reserves disk space and stops a decompression bomb. It is unpacked into
    root/`into`. `holds`: pairs (pattern under root, number of files) that identify a copy unpacked by hand. An archive with
    `extra` is fetched only when its part is named.
    """

    part: str
    url: str
    about: int
    unpacked: int
    holds: tuple[tuple[str, int], ...]
    size: int | None = None
    md5: str | None = None
    into: str = ""
    extra: bool = False

    @property
    def file(self) -> str:
        """The archive's file name in root: the last piece of its address."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Manual:
    """A file that no archive has.

    `file`: its path under root; `how`: the sentence that says how to get it; `count`: the number of its entries, if known.
    """

    part: str
    file: str
    how: str
    count: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set: its archives and the files that the user has to get."""

    archives: tuple[Archive, ...]
    manual: tuple[Manual, ...] = ()

    def pick(self, parts: list[str] | tuple[str, ...] | None) -> "Source":
        """Returns only the named parts; without names all except the extras. Raises MdwError for an unknown part."""
        known = [a.part for a in self.archives] + [m.part for m in self.manual]
        for part in parts or ():
            if part not in known:
                raise unknown("this data set has no --part", part, dict.fromkeys(known), "it has")
        archives = (a for a in self.archives if (a.part in parts if parts else not a.extra))
        return Source(tuple(archives), tuple(m for m in self.manual if not parts or m.part in parts))


COCO = "http://images.cocodataset.org"
MPII = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr"
LSP = "https://sam.johnson.io/research"
HRNET = (
    "it has no stable address: take it from the links in the README of HRNet's pose code "
    "(github.com/leoxiaobin/deep-high-resolution-net.pytorch)"
)
CONVERT = "`mdw data convert mpii` makes it from the annotations and valid.json"
VALID = f"{HRNET}, or `mdw data convert mpii --validation` makes it from the list of Tompson et al."

COCO_LABELS = tuple(
    (f"annotations/{kind}_{split}2017.json", 1)
    for kind in ("captions", "instances", "person_keypoints")
    for split in ("train", "val")
)

SOURCES = {
    "coco": Source(
        archives=(
            Archive(
                part="annotations",
                url=f"{COCO}/annotations/annotations_trainval2017.zip",
                about=252_907_541,
                size=252_907_541,
                md5="f4bbac642086de4f52a3fdda2de5fa2c",
                unpacked=1_000_000_000,
                holds=COCO_LABELS,
            ),
            Archive(
                part="test-info",
                url=f"{COCO}/annotations/image_info_test2017.zip",
                about=1_144_034,
                size=1_144_034,
                md5="85da7065e5e600ebfee8af1edb634eb5",
                unpacked=100_000_000,
                holds=(("annotations/image_info_test2017.json", 1), ("annotations/image_info_test-dev2017.json", 1)),
            ),
            Archive(
                part="val",
                url=f"{COCO}/zips/val2017.zip",
                about=815_585_330,
                size=815_585_330,
                md5="442b8da7639aecaf257c1dceb8ba8c80",
                unpacked=900_000_000,
                holds=(("val2017/*.jpg", 5_000),),
            ),
            Archive(
                part="test",
                url=f"{COCO}/zips/test2017.zip",
                about=6_646_970_404,
                size=6_646_970_404,
                md5="77ad2c53ac5d0aea611d422c0938fb35",
                unpacked=7_500_000_000,
                holds=(("test2017/*.jpg", 40_670),),
            ),
            Archive(
                part="train",
                url=f"{COCO}/zips/train2017.zip",
                about=19_336_861_798,
                size=19_336_861_798,
                md5="cced6f7f71b7629ddf16f17bbcfab6b2",
                unpacked=21_000_000_000,
                holds=(("train2017/*.jpg", 118_287),),
            ),
        ),
        manual=(
            Manual("detections", "person_detection_results/COCO_val2017_detections_AP_H_56_person.json", HRNET, 104_125),
            Manual("test-detections", "person_detection_results/COCO_test-dev2017_detections_AP_H_609_person.json", HRNET),
        ),
    ),
    "mpii": Source(
        archives=(
            Archive(
                part="annotations",
                url=f"{MPII}/mpii_human_pose_v1_u12_2.zip",
                about=12_500_000,
                unpacked=500_000_000,
                holds=(("mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat", 1),),
            ),
            Archive(
                part="images",
                url=f"{MPII}/mpii_human_pose_v1.tar.gz",
                about=12_900_000_000,
                unpacked=15_000_000_000,
                holds=(("images/*.jpg", 24_984),),
            ),
        ),
        manual=(
            Manual("json", "annot/train.json", CONVERT, 22_246),
            Manual("json", "annot/valid.json", VALID, 2_958),
            Manual("gt-valid", "annot/gt_valid.mat", HRNET),
        ),
    ),
    "lsp": Source(
        archives=(
            Archive(
                part="images",
                url=f"{LSP}/lsp_dataset.zip",
                about=100_000_000,
                unpacked=500_000_000,
                holds=(("images/im*.jpg", 2_000), ("joints.mat", 1)),
            ),
            Archive(
                part="original",
                url=f"{LSP}/lsp_dataset_original.zip",
                about=300_000_000,
                unpacked=1_000_000_000,
                holds=(("lsp_dataset_original/images/im*.jpg", 2_000),),
                into="lsp_dataset_original",
                extra=True,
            ),
        )
    ),
    "lspet": Source(
        archives=(
            Archive(
                part="images",
                url=f"{LSP}/lspet_dataset.zip",
                about=200_000_000,
                unpacked=1_000_000_000,
                holds=(("images/im*.jpg", 10_000), ("joints.mat", 1)),
            ),
        )
    ),
}
