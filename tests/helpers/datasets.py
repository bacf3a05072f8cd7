"""Made-up downloads, each in the layout of its dataset."""

import numpy as np


def hearts(num, size=(48, 40), *, seed=0, num_labels=4):
    """Grey images and label maps of hearts that contract: cavity, wall, atrium, and a structure beside them."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]] / np.reshape(size, (2, 1, 1))
    labels = []
    for t in range(num):
        shrink = 0.85 + 0.15 * np.cos(2 * np.pi * t / max(num, 2))
        cavity = ((rows - 0.4) / (0.25 * shrink)) ** 2 + ((cols - 0.5) / (0.15 * shrink)) ** 2 < 1
        wall = ((rows - 0.4) / 0.33) ** 2 + ((cols - 0.5) / 0.22) ** 2 < 1
        atrium = ((rows - 0.82) / 0.13) ** 2 + ((cols - 0.5) / 0.15) ** 2 < 1
        beside = ((rows - 0.4) / 0.2) ** 2 + ((cols - 0.12) / 0.09) ** 2 < 1
        labels.append(np.select([cavity, wall, atrium, beside], [1, 2, 3, 4], 0))
    labels = np.stack(labels)
    labels[labels >= num_labels] = 0
    noise = rng.integers(0, 40, labels.shape)
    return (np.array([20, 60, 150, 100, 200])[labels] + noise).astype(np.uint8), labels.astype(np.uint8)


def write_nifti(path, array, spacing=0.308):
    """As CAMUS does: reals, column first."""
    import nibabel

    image = nibabel.Nifti1Image(array.T.astype(np.float32), np.diag([-spacing, -spacing, 1, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_mhd(path, array):
    """As the challenge release of CAMUS does: bytes, pixels that are not square."""
    path.with_suffix(".raw").write_bytes(array.tobytes())
    frames = len(array) if array.ndim == 3 else 1
    path.write_text(
        f"NDims = 3\nDimSize = {array.shape[-1]} {array.shape[-2]} {frames}\nElementType = MET_UCHAR\n"
        f"ElementSpacing = 0.308 0.154 1.54\nElementDataFile = {path.with_suffix('.raw').name}\n"
    )


def write_avi(path, frames, rate=50):
    """A motion JPEG of the highest quality."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuvj420p"
        stream.codec_context.options = {"qmin": "1", "qmax": "1"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, -1), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def chords(mask):
    """The tracing of a mask as EchoNet has it: the long axis, then 20 chords from the apex to the base."""
    rows = np.flatnonzero(mask.any(1))
    heights = np.linspace(rows[0], rows[-1], 20).round().astype(int)
    ends = [(np.flatnonzero(mask[row])[[0, -1]], row) for row in heights]
    middle = [cols.mean() for cols, _ in ends]
    axis = (middle[0], rows[0], middle[-1], rows[-1])
    return np.array([axis, *((cols[0], row, cols[1], row) for cols, row in ends)], float)


def write_echonet(root, splits=("TRAIN", "TRAIN", "TRAIN", "VAL", "TEST"), num_frames=8, size=112):
    """Videos of 112 x 112 pixels, their list and two tracings each; the tracings' file writes the suffix."""
    videos = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    tracings = ["FileName,X1,Y1,X2,Y2,Frame"]
    for number, split in enumerate(splits):
        name = f"0X{number:016X}"
        images, labels = hearts(num_frames, (size, size), seed=number, num_labels=2)
        write_avi(root / "Videos" / f"{name}.avi", images)
        videos.append(f"{name},{50 + number}.5,40.0,80.0,{size},{size},50,{num_frames},{split}")
        for frame in (num_frames // 2, 0):  # end-systole, end-diastole
            tracings += [",".join([f"{name}.avi", *map(str, row), str(frame)]) for row in chords(labels[frame] == 1)]
    (root / "FileList.csv").write_text("\n".join(videos) + "\n")
    (root / "VolumeTracings.csv").write_text("\n".join(tracings) + "\n")
    return root


def write_hmcqu(root):
    """Two videos with blanks in their names, of which the masks cover a cycle on another grid."""
    import openpyxl
    from scipy import io

    book = openpyxl.Workbook()
    book.active.append(["ECHO ", "SEG1", "Reference Frame", "End of Cycle", "LV Wall Ground-truth Segmentation Masks"])
    masks = root / "LV Ground-truth Segmentation Masks"
    masks.mkdir(parents=True)
    for number, first in ((1, 2), (2, 1)):
        name = f"ES000{number} _4CH_1"
        images, labels = hearts(9, (56, 56), seed=number)
        write_avi(root / "HMC-QU" / "A4C" / f"{name}.avi", np.repeat(np.repeat(images, 2, 1), 2, 2))
        cycle = labels[first - 1 : first + 5]
        io.savemat(masks / f"Mask_{name}.mat", {"predicted": (cycle == 2).astype(np.uint8)}, do_compression=number == 1)
        book.active.append([name.replace(" ", ""), "non-MI", first, first + 5, "ü"])
    book.save(root / "A4C.xlsx")
    return root


def write_ted(root):
    """Two whole cycles."""
    for number in (1, 2):
        folder = root / f"patient{number:03d}"
        folder.mkdir(parents=True)
        images, labels = hearts(7, seed=number)
        stem = f"{folder.name}_4CH"
        (folder / f"{stem}_info.cfg").write_text("ED: 1\nES: 4\nNbFrame: 7\n")
        write_mhd(folder / f"{stem}_sequence.mhd", images)
        write_mhd(folder / f"{stem}_sequence_gt.mhd", labels)
    return root


def write_acdc(root):
    """Stacks of three slices whose labels are 1 right ventricle, 2 myocardium, 3 cavity."""
    import nibabel

    for folder, number in (("training", 1), ("training", 2), ("testing", 101)):
        place = root / folder / f"patient{number:03d}"
        place.mkdir(parents=True)
        (place / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\nNbFrame: 30\n")
        for frame in (1, 12):
            images, labels = hearts(3, seed=number + frame, num_labels=5)
            labels = np.array([0, 3, 2, 0, 1])[labels]
            for suffix, array in (("", 4.0 * images), ("_gt", labels)):
                path = place / f"{place.name}_frame{frame:02d}{suffix}.nii.gz"
                stack = nibabel.Nifti1Image(array.T.astype(np.float32), np.diag([-1.5, -1.5, 10, 1]))
                stack.header.set_xyzt_units("mm")
                nibabel.save(stack, path)
    return root


def write_folder(root, *, num_patients=4, num_labels=5):
    """Stills of one's own with a fourth structure, from two hospitals; one patient lacks its annotation."""
    from PIL import Image

    rows = ["image,patient,view,phase,split,vendor,centre,structures,dy_mm,dx_mm"]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(num_patients):
        images, labels = hearts(2, seed=number, num_labels=num_labels if number else 4)
        for phase, image, label in zip(("ED", "ES"), images, labels, strict=True):
            name = f"p{number}_{phase}"
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(label).save(root / "masks" / f"{name}.png")
            split = "validation" if number == num_patients - 1 else "train"
            known = "lv myocardium left_atrium" if number == 0 else ""
            rows.append(
                f"{name}.png,p{number},4CH,{phase},{split},Philips,{'north' if number % 2 else 'south'},{known},0.5,0.4"
            )
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root
