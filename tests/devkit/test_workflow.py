"""Front-end workflows become API prompts as the front end itself makes them."""

from __future__ import annotations

import pytest

from devkit.workflow import WorkflowError, find, find_one, set_inputs, to_api

MODEL, LATENT, IMAGE = "MODEL", "LATENT", "IMAGE"

INFO = {
    "Loader": {
        "input": {"required": {"name": [["a.safetensors", "b.safetensors"]]}},
        "input_order": {"required": ["name"]},
        "display_name": "Load It",
    },
    "Sampler": {
        "input": {
            "required": {
                "steps": ["INT", {"default": 20}],
                "model": [MODEL],
                "seed": ["INT", {"control_after_generate": True}],
                "cfg": ["FLOAT", {"default": 7.0}],
            },
            "optional": {"note": ["STRING", {"default": "hello"}], "image": [IMAGE]},
        },
        # the order of the file is that of the server's lists, not of the dictionary
        "input_order": {"required": ["model", "seed", "steps", "cfg"], "optional": ["note", "image"]},
    },
    "Upload": {
        "input": {
            "required": {
                "file": ["COMBO", {"options": ["x.mp4"], "video_upload": True}],
                "count": ["INT", {}],
            },
            "optional": {"fit": [["crop", "pad"]]},
        },
        "input_order": {"required": ["file", "count"], "optional": ["fit"]},
    },
    "Save": {
        "input": {
            "required": {
                "image": [IMAGE],
                "codec": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "auto", "inputs": {"required": {}}},
                            {
                                "key": "h264",
                                "inputs": {
                                    "required": {"crf": ["FLOAT", {"default": 23.0}]},
                                    "optional": {"preset": [["slow", "fast"]]},
                                },
                            },
                        ]
                    },
                ],
                "prefix": ["STRING", {"default": "p"}],
            }
        },
        "input_order": {"required": ["image", "codec", "prefix"]},
    },
    "Socket": {
        "input": {"required": {"seed": ["INT", {"forceInput": True}], "rows": ["STRING", {}]}},
        "input_order": {"required": ["seed", "rows"]},
    },
}


def node(number, kind, values=(), inputs=(), outputs=(), **more):
    return {
        "id": number,
        "type": kind,
        "widgets_values": values if isinstance(values, dict) else list(values),
        "inputs": [dict(zip(("name", "type", "link"), slot, strict=False)) for slot in inputs],
        "outputs": [{"name": kind, "type": kind} for kind in outputs],
        **more,
    }


def workflow(*nodes, links=()):
    return {"nodes": list(nodes), "links": [list(link) for link in links], "version": 0.4}


def inputs_of(prompt, number):
    return prompt[str(number)]["inputs"]


def loader(number=1, **more):
    return node(number, "Loader", ["b.safetensors"], outputs=[MODEL], **more)


def sampler(number=2, link=10, values=(5, "randomize", 30, 2.5, "hi"), **more):
    return node(number, "Sampler", values, [("model", MODEL, link), ("image", IMAGE, None)], [LATENT], **more)


def test_links_values_titles_and_the_value_after_a_seed():
    prompt = to_api(workflow(loader(title="Mine"), sampler(), links=[(10, 1, 0, 2, 0, MODEL)]), INFO)
    assert prompt["1"] == {
        "class_type": "Loader",
        "inputs": {"name": "b.safetensors"},
        "_meta": {"title": "Mine"},
    }
    assert inputs_of(prompt, 2) == {"model": ["1", 0], "seed": 5, "steps": 30, "cfg": 2.5, "note": "hi"}


def test_title_falls_back_to_the_display_name():
    assert to_api(workflow(loader()), INFO)["1"]["_meta"]["title"] == "Load It"


def test_version_1_links_are_objects():
    saved = workflow(loader(), sampler())
    saved["links"] = [
        {"id": 10, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": MODEL}
    ]
    saved["version"] = 1
    assert inputs_of(to_api(saved, INFO), 2)["model"] == ["1", 0]


def test_missing_values_get_defaults():
    assert inputs_of(to_api(workflow(sampler(link=None, values=())), INFO), 2) == {
        "seed": 0,
        "steps": 20,
        "cfg": 7.0,
        "note": "hello",
    }


def test_values_stored_by_name():
    prompt = to_api(workflow(node(1, "Sampler", {"seed": 4, "cfg": 1.0})), INFO)
    assert inputs_of(prompt, 1) == {"seed": 4, "cfg": 1.0, "steps": 20, "note": "hello"}


@pytest.mark.parametrize(
    "values",
    [["x.mp4", 8, "pad", "image"], ["x.mp4", 8, "image", "pad"], ["x.mp4", 8, "pad"]],
    ids=["last", "after the required", "none"],
)
def test_an_upload_button_leaves_a_value(values):
    prompt = to_api(workflow(node(1, "Upload", values)), INFO)
    assert inputs_of(prompt, 1) == {"file": "x.mp4", "count": 8, "fit": "pad"}


def test_dynamic_combo_brings_its_own_widgets():
    auto = to_api(workflow(node(1, "Save", ["auto", "out"])), INFO)
    assert inputs_of(auto, 1) == {"codec": "auto", "prefix": "out"}
    h264 = to_api(workflow(node(1, "Save", ["h264", 18.0, "fast", "out"])), INFO)
    assert inputs_of(h264, 1) == {
        "codec": "h264",
        "codec.crf": 18.0,
        "codec.preset": "fast",
        "prefix": "out",
    }


def test_a_linked_widget_takes_the_link_and_keeps_the_order_of_the_rest():
    saved = workflow(
        node(1, "Sampler", [5, "fixed", 30, 2.5, "hi"], [("steps", "INT", 11)]),
        loader(3),
        links=[(11, 3, 0, 1, 0, "INT")],
    )
    saved["nodes"][0]["inputs"][0]["widget"] = {"name": "steps"}
    assert inputs_of(to_api(saved, INFO), 1) == {"seed": 5, "steps": ["3", 0], "cfg": 2.5, "note": "hi"}


def test_an_input_that_is_only_a_socket_has_no_value():
    assert inputs_of(to_api(workflow(node(1, "Socket", ["text"])), INFO), 1) == {"rows": "text"}


def test_a_list_as_a_value_is_not_taken_for_a_link():
    prompt = to_api(workflow(node(1, "Socket", [["a", 1]])), INFO)
    assert inputs_of(prompt, 1) == {"rows": {"__value__": ["a", 1]}}


def test_reroutes_primitives_and_notes_disappear():
    saved = workflow(
        loader(),
        node(5, "Reroute", inputs=[("", "*", 20)], outputs=[MODEL]),
        node(6, "Reroute", inputs=[("", "*", 21)], outputs=[MODEL]),
        node(7, "PrimitiveNode", [77, "fixed"], outputs=["INT"]),
        node(8, "Note", ["text"]),
        node(9, "MarkdownNote", ["text"]),
        sampler(link=22),
        links=[
            (20, 1, 0, 5, 0, MODEL),
            (21, 5, 0, 6, 0, MODEL),
            (22, 6, 0, 2, 0, MODEL),
            (23, 7, 0, 2, 1, "INT"),
        ],
    )
    saved["nodes"][-1]["inputs"].append(
        {"name": "seed", "type": "INT", "link": 23, "widget": {"name": "seed"}}
    )
    prompt = to_api(saved, INFO)
    assert sorted(prompt) == ["1", "2"]
    assert inputs_of(prompt, 2)["model"] == ["1", 0]
    assert inputs_of(prompt, 2)["seed"] == 77


def test_a_ring_of_reroutes_ends():
    saved = workflow(
        node(5, "Reroute", inputs=[("", "*", 21)], outputs=[MODEL]),
        node(6, "Reroute", inputs=[("", "*", 20)], outputs=[MODEL]),
        sampler(link=20),
        links=[(20, 5, 0, 6, 0, MODEL), (21, 6, 0, 5, 0, MODEL)],
    )
    assert "model" not in inputs_of(to_api(saved, INFO), 2)


def chain(mode):
    middle = node(
        4,
        "Sampler",
        [1, "fixed", 1, 1.0, ""],
        [("image", IMAGE, None), ("model", MODEL, 10)],
        [MODEL],
        mode=mode,
    )
    links = [(10, 1, 0, 4, 1, MODEL), (12, 4, 0, 2, 0, MODEL)]
    return workflow(loader(), middle, sampler(link=12), links=links)


def test_a_bypassed_node_hands_on_the_input_of_the_same_type():
    prompt = to_api(chain(mode=4), INFO)
    assert sorted(prompt) == ["1", "2"]
    assert inputs_of(prompt, 2)["model"] == ["1", 0]


def test_a_muted_node_takes_its_links_along():
    prompt = to_api(chain(mode=2), INFO)
    assert sorted(prompt) == ["1", "2"]
    assert "model" not in inputs_of(prompt, 2)


def test_unknown_nodes_and_subgraphs_get_a_plain_sentence():
    with pytest.raises(WorkflowError, match=r"no node type 'Nope'.*pack.*installed"):
        to_api(workflow(node(1, "Nope")), INFO)
    saved = workflow(node(1, "1234-5678"))
    saved["definitions"] = {"subgraphs": [{"id": "1234-5678"}]}
    with pytest.raises(WorkflowError, match="subgraph"):
        to_api(saved, INFO)
    with pytest.raises(WorkflowError, match="not a workflow"):
        to_api({"1": {"class_type": "Loader"}}, INFO)


def test_finding_and_setting():
    saved = workflow(loader(title="Base"), sampler(), sampler(3), links=[(10, 1, 0, 2, 0, MODEL)])
    prompt = to_api(saved, INFO)
    assert find(prompt, "Sampler") == ["2", "3"]
    assert find_one(prompt, "Base") == "1"
    set_inputs(prompt, {"Sampler": {"steps": 3}, "3": {"seed": 9}})
    assert [inputs_of(prompt, n)["steps"] for n in (2, 3)] == [3, 3]
    assert [inputs_of(prompt, n)["seed"] for n in (2, 3)] == [5, 9]
    with pytest.raises(WorkflowError, match="2 nodes for 'Sampler' instead of one"):
        find_one(prompt, "Sampler")
    with pytest.raises(WorkflowError, match="no node for 'Other'"):
        set_inputs(prompt, {"Other": {"steps": 3}})
    with pytest.raises(WorkflowError, match="no input 'stepz'"):
        set_inputs(prompt, {"Sampler": {"stepz": 3}})
