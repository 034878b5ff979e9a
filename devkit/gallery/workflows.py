"""The example workflows, one function each."""

from __future__ import annotations

from collections.abc import Callable

from . import parts
from .graph import BLUE, GOLD, GREEN, GREY, PURPLE, Graph, Socket
from .kinds import CHECKPOINT, DREAMBOOTH, FRAMES, LONG_CLIP, LONG_FRAMES, SECOND, SECOND_CLIP
from .parts import EDIT_PROMPT, EMPTY, FULL, SOURCE

BEFORE = {
    "apply-saved-weights": "quickstart",
    "save-official": "quickstart",
    "load-official": "save-official",
}
"""Workflows that load a file which another one saves, and that one."""

_SAVED_BY_QUICKSTART = (
    "The file *quickstart_00001* is what the workflow *quickstart* saved; choose any file of yours instead."
)


def quickstart(graph: Graph) -> None:
    """The whole method on one clip."""
    note = (
        "# Edit a video with a prompt\n\n1. Choose a **checkpoint** and a **video**.\n"
        "2. Write the **source prompt**, which describes the video, and the **edit prompt**.\n"
        "3. Queue. The model is tuned on the clip, the clip is inverted to noise, and sampling from that noise "
        f"with the edit prompt gives the new clip.\n\n{FULL}\n\nThe tuned weights are kept in "
        "*models/tune_a_video*; *Load* and *Apply Tuned Weights* use them again without tuning."
    )
    _edit(graph, note, "a cat on the beach")


def _edit(graph: Graph, note: str, edit: str, checkpoint: str = CHECKPOINT) -> None:
    loaded = parts.model_and_video(graph, note, checkpoint=checkpoint)
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.empty)
    parts.sample_and_save(graph, loaded, edit, tuned, (prepared.edits[0], prepared.empty), noise)


def batch_of_edits(graph: Graph) -> None:
    """Several edit prompts from one tuning and one inversion, on one labelled sheet."""
    edits = (
        "a cat on the grass",
        "a rabbit on the beach",
        f"{SOURCE}, pixel art style",
        "a penguin at sunset",
    )
    note = (
        "# Many edits of one clip\n\nWrite one edit prompt per line into *List of Edits*. Tuning and inversion run "
        "once; *Sample Edited Video* and what follows run once per line, and *Compare Videos* puts all of them on "
        "one sheet. Each edit is saved as a video of its own, too.\n\nStart from the sentence that describes the "
        "clip, because its verb carries the motion:\n\n- **Subject**: change only the noun. If the background "
        "must stay as it is, see the workflow *mask*.\n- **Background**: change only the place.\n- **Style**: add "
        "the style. The small checkpoint knows *sketch style* and *pixel art style*; Stable Diffusion 1.5 knows "
        "most that can be named, such as *watercolor painting* or *comic style*.\n\nIf the source shines "
        f"through, raise cfg, or tune fewer steps for another background.\n\n{FULL}"
    )
    loaded = parts.model_and_video(graph, note)
    prepared = parts.words_and_frames(graph, loaded, {})
    inputs = {"clip": loaded.clip, "edits": "\n".join(edits), "source": parts.SOURCE}
    listed = graph.add("TAVEditList", inputs=inputs)
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.empty)
    parts.sampling_column(graph)
    frames = parts.draw(graph, loaded, tuned, (listed["CONDITIONING"], prepared.empty), noise)
    video = parts.video_of(graph, loaded, frames)
    compared = {
        "source": loaded.video["frames"],
        "edited.edited_1": frames,
        "captions": listed["captions"],
    }
    parts.results(graph, video, graph.add("TAVCompareVideos", inputs=compared)["comparison"])


def controlnet(graph: Graph) -> None:
    """A ControlNet holds the motion in inversion and sampling of a tuned model."""
    note = (
        "# With a ControlNet\n\nOne hint picture per frame, in the order of the frames. The ControlNet is applied "
        "to the words of the inversion and of the sampling alike.\n\nThe small ControlNet takes the subject's "
        "white silhouette. **For Stable Diffusion 1.5** take a ControlNet for edges, depth or poses, and make "
        "the hints from the frames of *Load Video Frames* with the node *Canny* or another preprocessor; "
        f"strength 0.5 to 1.\n\n{FULL}"
    )
    edit = "a cat on the beach"
    loaded = parts.model_and_video(graph, note)
    hints = parts.subject_frames(graph, "Hints: one per frame")
    control = graph.add("ControlNetLoader")["CONTROL_NET"]
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    pair = (prepared.empty, prepared.empty)
    held = _controlled(graph, "ControlNet for the inversion", pair, control, hints)
    noise = parts.invert(graph, tuned, prepared.latent, held[0])
    parts.sampling_column(graph)
    pair = (prepared.edits[0], prepared.empty)
    guided = _controlled(graph, "ControlNet for the edit", pair, control, hints)
    parts.draw_and_save(graph, loaded, edit, tuned, guided, noise)


def controlnet_without_tuning(graph: Graph) -> None:
    """No tuning: the inflated image model, one noise for all frames, and a ControlNet that gives the motion."""
    note = (
        "# Without tuning\n\n*Inflate Model* alone lets every frame look at the first and the previous one; all "
        "frames start from one noise; the ControlNet gives the motion. A draft in seconds: nothing of the source "
        "is kept but the hints, and details flicker more than after tuning.\n\nThe sheet shows the same noise "
        "and words without the ControlNet as well.\n\n**For Stable Diffusion 1.5**: hints from the frames by "
        "*Canny* or a depth or pose preprocessor, 512 x 512, 50 steps, cfg 7 to 12.5. The numbers here suit the "
        "small demo checkpoint, whose hints are white silhouettes."
    )
    edit = "a cat on the beach"
    loaded = parts.model_and_video(graph, note)
    hints = parts.subject_frames(graph, "Hints: one per frame")
    graph.column("2  Prompts and frames", GREEN)
    words = graph.text(EDIT_PROMPT, loaded.clip, edit)
    empty = graph.text(EMPTY, loaded.clip, "", negative=True)
    latent = parts.encode(graph, loaded)
    model = parts.inflate(graph, loaded.model)
    control = graph.add("ControlNetLoader")["CONTROL_NET"]
    guided = _controlled(graph, None, (words, empty), control, hints)
    graph.column("3  Sample", PURPLE)
    start = {"start": "one noise for all frames"}
    frames = parts.draw(graph, loaded, model, guided, latent, title="With ControlNet", **start)
    alone = parts.draw(graph, loaded, model, (words, empty), latent, title="Without ControlNet", **start)
    graph.column("4  Compare", GOLD)
    video = parts.video_of(graph, loaded, frames)
    shown = {"without ControlNet": alone, "with ControlNet": frames}
    sheet = parts.compare(graph, loaded, shown, "source")
    parts.results(graph, video, sheet)


def _controlled(
    graph: Graph, title: str | None, pair: tuple[Socket, Socket], control: Socket, hints: Socket
) -> tuple[Socket, Socket]:
    inputs = {"positive": pair[0], "negative": pair[1], "control_net": control, "image": hints}
    node = graph.add("ControlNetApplyAdvanced", title, inputs)
    return node["positive"], node["negative"]


def lora(graph: Graph) -> None:
    """Tuned on the base, drawn in the style of a LoRA."""
    note = (
        "# With a LoRA\n\nThe model is tuned without the LoRA; the LoRA comes afterwards and is used by "
        "inversion and sampling alike. Before or after the tuned weights makes no difference; **tuning with the "
        "LoRA loaded** does: connect it in front of *Inflate Model* for a character that the base cannot "
        "draw.\n\nThe small LoRA knows one style, *neon style*. **For Stable Diffusion 1.5** any LoRA of that "
        f"base works, at strengths of 0.6 to 1; use its trigger words.\n\n{FULL}"
    )
    edit = f"{SOURCE}, neon style"
    loaded = parts.model_and_video(graph, note)
    prepared = parts.words_and_frames(graph, loaded, {})
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    added = graph.add("LoraLoader", inputs={"model": tuned, "clip": loaded.clip})
    words = graph.text(EDIT_PROMPT, added["CLIP"], edit)
    noise = parts.invert(graph, added["MODEL"], prepared.latent, prepared.empty)
    parts.sample_and_save(graph, loaded, edit, added["MODEL"], (words, prepared.empty), noise)


def dreambooth(graph: Graph) -> None:
    """Tuned on the base, applied to a personalised variant of it."""
    note = (
        "# With a personalised checkpoint\n\nThe motion is tuned on the base; *Apply Tuned Weights* puts it onto "
        "a DreamBooth variant of that base, for inversion and sampling. So one tuned file serves many personalised "
        "models. A hint in the log says that the model is not the one that was tuned; relatives work.\n\nThe "
        "small variant knows one new word, *sks*: a robot. **For Stable Diffusion 1.5** take any DreamBooth "
        f"or merged checkpoint of that base, and its word.\n\n{FULL}"
    )
    edit = "a sks on the grass"
    loaded = parts.model_and_video(graph, note)
    personal = graph.add("CheckpointLoaderSimple", "Personalised checkpoint", {"ckpt_name": DREAMBOOTH})
    prepared = parts.words_and_frames(graph, loaded, {})
    words = graph.text("Edit prompt with the variant's word", personal["CLIP"], edit)
    empty = graph.text(f"{EMPTY} of the variant", personal["CLIP"], "", negative=True)
    weights = parts.tune(graph, prepared, graph.name)["weights"]
    applied = graph.add("TAVApplyWeights", inputs={"model": personal["MODEL"], "weights": weights})["MODEL"]
    noise = parts.invert(graph, applied, prepared.latent, empty)
    parts.sample_and_save(graph, loaded, edit, applied, (words, empty), noise)


def stable_diffusion_2(graph: Graph) -> None:
    """The whole method on a checkpoint of Stable Diffusion 2.x's kind."""
    note = (
        "# With Stable Diffusion 2.x\n\nThe graph of *quickstart* on a checkpoint of the other kind: linear "
        "projections, heads 64 wide, and a network that predicts the **velocity** instead of the noise. Nothing "
        "has to be set for it: the nodes take what the checkpoint says.\n\n**For a real 2.x checkpoint**: 768 x 768 "
        "for those that predict the velocity (*v2-1_768*), 512 x 512 for the others (*v2-1_512*); all else as for "
        "1.5, below. Tuned weights of 1.5 and of 2.x do not fit each other.\n\n"
        f"{FULL}"
    )
    _edit(graph, note, "a cat on the beach", SECOND)


def per_frame_prompts(graph: Graph) -> None:
    """Words that change over the clip."""
    note = (
        "# Prompts that change over time\n\n*Prompt Schedule* gives each frame its own prompt. One line per "
        "keyframe: the frame number, a colon, and the prompt from there on. *blend* blends from keyframe to "
        "keyframe; off switches at each.\n\nConnect its frame_count to *Load Video Frames*, so that both agree."
        f"\n\n{FULL}"
    )
    loaded = parts.model_and_video(graph, note)
    prepared = parts.words_and_frames(graph, loaded, {})
    prompts = f"0: {SOURCE}\n5: a rabbit on the beach\n10: a cat on the beach\n15: a cat on the snow"
    inputs = {"clip": loaded.clip, "prompts": prompts, "frame_count": loaded.video["frame_count"]}
    words = graph.add("TAVPromptSchedule", inputs=inputs)["CONDITIONING"]
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.empty)
    parts.sample_and_save(graph, loaded, "grass, beach, cat, snow", tuned, (words, prepared.empty), noise)


def long_clip(graph: Graph) -> None:
    """More frames than fit at once: tuning and sampling in windows."""
    note = (
        "# Long clips\n\nMemory grows with the frames that are looked at together. Two settings bound it, however "
        "long the clip is:\n\n- **frames_per_step** of *Tune on One Video* trains each step on this many "
        "consecutive frames.\n- **Context Windows** (ComfyUI's own node) inverts and samples so "
        "many frames at a time and blends where windows overlap. Every window is also shown the clip's "
        "first frame and the one before it, so that they belong together.\n\nPut it between *Tune on One Video* and "
        "both *DDIM Inversion* and *Sample Edited Video*; leave **dim** at 0. Take windows as long as what was tuned "
        "on, and overlap a quarter of them.\n\nWhere the whole clip should be looked at together, chunk_frames of "
        "*Inflate Model* saves part of the memory and changes nothing else.\n\n"
        f"{FULL} Windows of 16 to 24 frames there, and more tuning steps for a longer clip."
    )
    edit = "a cat on the beach"
    loaded = parts.model_and_video(graph, note, {"video": LONG_CLIP, "frame_count": LONG_FRAMES})
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    tuned = parts.tune(graph, prepared, graph.name, {"frames_per_step": FRAMES})["MODEL"]
    windowed = graph.add("ContextWindowsManual", inputs={"model": tuned})["MODEL"]
    noise = parts.invert(graph, windowed, prepared.latent, prepared.empty)
    parts.sample_and_save(graph, loaded, edit, windowed, (prepared.edits[0], prepared.empty), noise)


def mask(graph: Graph) -> None:
    """Outside of a mask the picture stays the source's."""
    note = (
        "# Keep the background\n\nWhere the mask is black, every step of the sampling puts the source's own "
        "latents back; only the white part is regenerated. Turn **keep_trajectory** on in *DDIM Inversion* and "
        "use the same steps in both.\n\nOne mask for all frames, or one per frame: from a segmentation, or "
        "painted in the mask editor of *Load Image*. Grow it by at least 8 pixels: one latent cell is 8 x 8 "
        "pixels. Here it comes from a second clip that shows the subject in white.\n\n"
        f"{FULL} Grow the mask by 16 to 32 pixels there."
    )
    edit = "a cat on the grass"
    loaded = parts.model_and_video(graph, note)
    silhouettes = parts.subject_frames(graph, "The subject in white")
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    inside = parts.subject_mask(graph, silhouettes, 10)
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.empty, trajectory=True)
    parts.sample_and_save(graph, loaded, edit, tuned, (prepared.edits[0], prepared.empty), noise, mask=inside)


def reconstruction_check(graph: Graph) -> None:
    """Whether tuning and inversion bring the clip back, before any edit."""
    note = (
        "# Will an edit keep the motion?\n\nThe clip is inverted and sampled with the **source prompt at "
        "cfg 1**. The reconstruction is the best that an edit can keep: 25 dB and more is good, below 20 dB tune "
        "longer, or use more steps for both.\n\nThe VAE alone sets a limit, which the report shows too."
        f"\n\n{FULL}"
    )
    loaded = parts.model_and_video(graph, note)
    prepared = parts.words_and_frames(graph, loaded, {})
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.source)
    graph.column("4  Reconstruct", PURPLE)
    pair = (prepared.source, prepared.empty)
    frames = parts.draw(graph, loaded, tuned, pair, noise, cfg=1.0)
    vae = graph.add("VAEDecode", "The VAE alone", {"samples": prepared.latent, "vae": loaded.vae})["IMAGE"]
    inputs = {"source": loaded.video["frames"], "reconstruction": frames, "autoencoded": vae}
    difference = graph.add("TAVReconstruction", inputs=inputs)["difference"]
    graph.column("5  Results", GREY)
    shown = {"reconstruction": frames, "difference, enlarged": difference}
    sheet = parts.compare(graph, loaded, shown, "source")
    graph.add("SaveImage", inputs={"images": sheet, "filename_prefix": f"tune_a_video/{graph.name}"})


def evaluate(graph: Graph) -> None:
    """The papers' measures of an edit."""
    note = (
        "# Measure an edit\n\n*Evaluate Video* reports what the papers do: frame consistency and text "
        "alignment (both need a CLIP model: copy *openai/clip-vit-large-patch14* as a folder to "
        "*models/clip_vision* and choose it), flicker along the motion, and how much of the background "
        "stayed (needs a mask of the background).\n\nThe numbers of one clip say little: compare settings on "
        f"the same clip.\n\n{FULL}"
    )
    edit = "a cat on the grass"
    loaded = parts.model_and_video(graph, note)
    silhouettes = parts.subject_frames(graph, "The subject in white")
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    grown = parts.subject_mask(graph, silhouettes, 10)
    background = graph.add("InvertMask", inputs={"mask": grown})["MASK"]
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    noise = parts.invert(graph, tuned, prepared.latent, prepared.empty)
    parts.sampling_column(graph)
    frames = parts.draw(graph, loaded, tuned, (prepared.edits[0], prepared.empty), noise)
    sheet = parts.compare(graph, loaded, {edit: frames})
    graph.column("5  Results", GREY)
    inputs = {"frames": frames, "source": loaded.video["frames"], "background": background, "prompt": edit}
    graph.add("TAVEvaluate", inputs=inputs)
    graph.add("SaveImage", inputs={"images": sheet, "filename_prefix": f"tune_a_video/{graph.name}"})


def apply_saved_weights(graph: Graph) -> None:
    """Another edit from a tuned-weights file: no tuning."""
    note = (
        "# Edit again without tuning\n\n*Load Tuned Weights* reads a file of *models/tune_a_video* and shows how "
        "it was made; *Apply Tuned Weights* puts it onto the checkpoint. Nothing is tuned: an edit costs "
        f"only inversion and sampling.\n\n{_SAVED_BY_QUICKSTART}\n\nThe strengths say how much the tuned "
        "queries and the layers over time count: 1 is as tuned, 0 is without. Take the frames and the size "
        f"that the file was tuned with.\n\n{FULL}"
    )
    edit = "a dog on the beach"
    loaded = parts.model_and_video(graph, note)
    weights = graph.add("TAVLoadWeights")["weights"]
    graph.column("2  Prompts and frames", GREEN)
    words = graph.text(EDIT_PROMPT, loaded.clip, edit)
    empty = graph.text(EMPTY, loaded.clip, "", negative=True)
    latent = parts.encode(graph, loaded)
    graph.column("3  Apply and invert", GOLD)
    tuned = graph.add("TAVApplyWeights", inputs={"model": loaded.model, "weights": weights})["MODEL"]
    noise = parts.invert(graph, tuned, latent, empty)
    parts.sample_and_save(graph, loaded, edit, tuned, (words, empty), noise)


def two_tuned_clips(graph: Graph) -> None:
    """The weights of two clips on one model, each with its own strengths."""
    note = (
        "# Two tuned clips on one model\n\nThe model is tuned on each clip by itself; both results are applied, "
        "each with strengths of its own. Their query differences add up, and so do what their layers over time "
        "give; strengths that sum to about 1 keep the picture sound. Attention and norm are as the last "
        f"one was tuned.\n\nHere the first clip is edited into the subject of the second.\n\n{FULL}"
    )
    loaded = parts.model_and_video(graph, note)
    second = graph.add("TAVLoadVideo", "The second clip", {"video": SECOND_CLIP})
    edit = "a penguin on the grass"
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    other = graph.text("What the second video shows", loaded.clip, "a penguin on the snow")
    pixels = {"pixels": second["frames"], "vae": loaded.vae}
    other_latent = graph.add("VAEEncode", "VAE Encode: the second clip", pixels)["LATENT"]
    graph.column("3  Tune on each", GOLD)
    first_inputs = {"model": prepared.model, "latent": prepared.latent, "positive": prepared.source}
    second_inputs = {"model": prepared.model, "latent": other_latent, "positive": other}
    one = graph.add("TAVTune", "Tune on the first", first_inputs | {"filename_prefix": "first"})["weights"]
    two = graph.add("TAVTune", "Tune on the second", second_inputs | {"filename_prefix": "second"})["weights"]
    graph.column("4  Apply both and edit", PURPLE)
    half = {"query_strength": 0.6, "temporal_strength": 0.6}
    inputs = {"model": loaded.model, "weights": one} | half
    applied = graph.add("TAVApplyWeights", "Weights of the first clip", inputs)
    half = {"query_strength": 0.4, "temporal_strength": 0.4}
    inputs = {"model": applied["MODEL"], "weights": two} | half
    both = graph.add("TAVApplyWeights", "Weights of the second clip", inputs)
    noise = parts.invert(graph, both["MODEL"], prepared.latent, prepared.empty)
    frames = parts.draw(graph, loaded, both["MODEL"], (prepared.edits[0], prepared.empty), noise)
    graph.column("5  Results", GREY)
    video = parts.video_of(graph, loaded, frames)
    sheet = parts.compare(graph, loaded, {edit: frames})
    graph.add("SaveVideo", inputs={"video": video, "filename_prefix": f"tune_a_video/{graph.name}"})
    graph.add("SaveImage", inputs={"images": sheet, "filename_prefix": f"tune_a_video/{graph.name}-sheet"})


def save_official(graph: Graph) -> None:
    """Tuned weights out: our file, the official layout, a LoRA."""
    note = (
        "# Save tuned weights\n\n*Tune on One Video* has saved its weights already. From there:\n\n- *Save Tuned "
        "Weights* writes them under another name, or in half the size.\n- *Save Official Tune-A-Video Folder* "
        "writes base and tuned weights together, as the official code reads them (3.4 GB and more for Stable "
        "Diffusion 1.5).\n- *Save Tuned Queries as LoRA* writes the queries alone, for any program that "
        f"knows LoRAs.\n\n{_SAVED_BY_QUICKSTART}\n\nThe workflow *load-official* reads the folder."
    )
    graph.column("1  Model and weights", BLUE)
    graph.note(note)
    model = graph.add("CheckpointLoaderSimple")["MODEL"]
    weights = graph.add("TAVLoadWeights")["weights"]
    graph.column("2  Save", GREY)
    named = {"weights": weights, "filename_prefix": "small", "precision": "fp16 (half the size)"}
    graph.add("TAVSaveWeights", inputs=named)
    named = {"model": model, "weights": weights, "filename_prefix": "official"}
    graph.add("TAVSaveOfficial", inputs=named)
    graph.add("TAVSaveQueryLora", inputs={"weights": weights, "filename_prefix": "tuned_queries"})


def load_official(graph: Graph) -> None:
    """A folder of the official code as tuned weights."""
    note = (
        "# Weights of the official code\n\nCopy the folder that the official Tune-A-Video code saved (with "
        "*unet* inside) to *models/tune_a_video*. The difference to the base checkpoint is taken, so choose "
        "the base that it was tuned on.\n\nThe folder *official_00001* is what the workflow *save-official* "
        f"wrote; choose yours instead.\n\n{FULL}"
    )
    edit = "a cat on the snow"
    loaded = parts.model_and_video(graph, note)
    graph.column("2  Prompts and frames", GREEN)
    words = graph.text(EDIT_PROMPT, loaded.clip, edit)
    empty = graph.text(EMPTY, loaded.clip, "", negative=True)
    latent = parts.encode(graph, loaded)
    weights = graph.add("TAVLoadOfficial", inputs={"model": loaded.model})["weights"]
    graph.column("3  Apply and invert", GOLD)
    tuned = graph.add("TAVApplyWeights", inputs={"model": loaded.model, "weights": weights})["MODEL"]
    noise = parts.invert(graph, tuned, latent, empty)
    parts.sample_and_save(graph, loaded, edit, tuned, (words, empty), noise)


def custom_sampling(graph: Graph) -> None:
    """The same inversion and sampling in core's SamplerCustomAdvanced."""
    note = (
        "# With core's custom sampling\n\n*DDIM Sampler* and *DDIM Sigmas* are what *DDIM Inversion* and *Sample "
        "Edited Video* do inside, for *SamplerCustomAdvanced*: so other guiders work with a tuned model. "
        "Noise is off in both: the inverted clip is the noise.\n\nThe result is the same as the "
        f"quickstart's, bit for bit.\n\n{FULL}"
    )
    edit = "a cat on the beach"
    loaded = parts.model_and_video(graph, note)
    prepared = parts.words_and_frames(graph, loaded, {EDIT_PROMPT: edit})
    tuned = parts.tune(graph, prepared, graph.name)["MODEL"]
    graph.column("4  Invert", BLUE)
    quiet = graph.add("DisableNoise")["NOISE"]
    plain = graph.add("BasicGuider", inputs={"model": tuned, "conditioning": prepared.empty})["GUIDER"]
    noise = _custom(graph, tuned, "inversion", plain, quiet, prepared.latent)
    graph.column("5  Sample the edit", PURPLE)
    pair = {"positive": prepared.edits[0], "negative": prepared.empty}
    guided = graph.add("CFGGuider", inputs={"model": tuned} | pair)["GUIDER"]
    drawn = _custom(graph, tuned, "sampling", guided, quiet, noise)
    frames = graph.add("VAEDecode", inputs={"samples": drawn, "vae": loaded.vae})["IMAGE"]
    graph.column("6  Results", GREY)
    sheet = parts.compare(graph, loaded, {edit: frames})
    graph.add("SaveImage", inputs={"images": sheet, "filename_prefix": f"tune_a_video/{graph.name}"})


def _custom(
    graph: Graph, model: Socket, direction: str, guider: Socket, noise: Socket, latent: Socket
) -> Socket:
    sampler = graph.add("TAVDDIMSampler", inputs={"direction": direction})["SAMPLER"]
    sigmas = graph.add("TAVDDIMSigmas", inputs={"model": model, "direction": direction})["SIGMAS"]
    inputs = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    return graph.add("SamplerCustomAdvanced", inputs=inputs)["output"]


_ALL: tuple[Callable[[Graph], None], ...] = (
    quickstart,
    batch_of_edits,
    controlnet,
    controlnet_without_tuning,
    lora,
    dreambooth,
    per_frame_prompts,
    long_clip,
    mask,
    reconstruction_check,
    evaluate,
    apply_saved_weights,
    two_tuned_clips,
    save_official,
    load_official,
    custom_sampling,
    stable_diffusion_2,
)


def build_all() -> dict[str, dict]:
    """The content of every workflow file that is written from here, by its name without .json."""
    built = {}
    for function in _ALL:
        graph = Graph(function.__name__.replace("_", "-"))
        function(graph)
        built[graph.name] = graph.saved()
    return built
