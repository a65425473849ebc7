"""The transformer's first weights from a local file of ViT weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from medtrans import ConfigError, SetupError
from medtrans_resvit.resvit import ResViT

DIM, HEADS, HIDDEN, EMBED, DEPTH = 8, 2, 20, 12, 2
OPTIONS = {
    "ngf": 2, "blocks": 3, "transformers": (1, 3), "dim": DIM, "depth": DEPTH, "heads": HEADS, "mlp_dim": HIDDEN,
    "embed_channels": EMBED,
}  # fmt: skip
PLANE = (64, 80, 1)


def weights(grid: int = 14) -> dict[str, np.ndarray]:
    """A file's content with the names and axes of the published JAX weights."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/kernel": (1, 1, EMBED, DIM),
        "embedding/bias": (DIM,),
        "Transformer/posembed_input/pos_embedding": (1, grid * grid + 1, DIM),
        "Transformer/encoder_norm/scale": (DIM,),
        "Transformer/encoder_norm/bias": (DIM,),
        "head/kernel": (DIM, 10),
    }
    for n in range(DEPTH + 1):
        block = f"Transformer/encoderblock_{n}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}/{norm}/scale": (DIM,), f"{block}/{norm}/bias": (DIM,)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes |= {
                f"{attention}/{part}/kernel": (DIM, HEADS, DIM // HEADS),
                f"{attention}/{part}/bias": (HEADS, DIM // HEADS),
            }
        shapes |= {f"{attention}/out/kernel": (HEADS, DIM // HEADS, DIM), f"{attention}/out/bias": (DIM,)}
        shapes |= {
            f"{block}/MlpBlock_3/Dense_0/kernel": (DIM, HIDDEN),
            f"{block}/MlpBlock_3/Dense_0/bias": (HIDDEN,),
            f"{block}/MlpBlock_3/Dense_1/kernel": (HIDDEN, DIM),
            f"{block}/MlpBlock_3/Dense_1/bias": (DIM,),
        }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def saved(folder: Path, content: dict[str, np.ndarray]) -> Path:
    file = folder / "vit.npz"
    np.savez(file, **content)
    return file


def loaded(file: Path, **options) -> ResViT:
    return ResViT(1, 1, PLANE, vit_weights=file, **{**OPTIONS, **options}).eval()


def test_each_tensor_of_the_file_reaches_its_place(tmp_path: Path) -> None:
    content = weights()
    network = loaded(saved(tmp_path, content)).network
    tokens = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    attention = network.encoder.layers[1].attention
    prefix = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    for part in ("query", "key", "value"):
        expected = (
            np.einsum("td,dhe->the", tokens, content[f"{prefix}/{part}/kernel"]) + content[f"{prefix}/{part}/bias"]
        )
        found = getattr(attention, part)(torch.from_numpy(tokens)).detach().numpy()
        np.testing.assert_allclose(found.reshape(5, HEADS, -1), expected, rtol=1e-4, atol=1e-5)
    mixed = tokens.reshape(5, HEADS, -1)
    expected = np.einsum("the,hed->td", mixed, content[f"{prefix}/out/kernel"]) + content[f"{prefix}/out/bias"]
    np.testing.assert_allclose(attention.out(torch.from_numpy(tokens)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    layer = network.encoder.layers[0]
    mlp = "Transformer/encoderblock_0/MlpBlock_3"
    np.testing.assert_array_equal(layer.mlp.widen.weight.detach(), content[f"{mlp}/Dense_0/kernel"].T)
    np.testing.assert_array_equal(layer.mlp.narrow.weight.detach(), content[f"{mlp}/Dense_1/kernel"].T)
    np.testing.assert_array_equal(layer.mlp.narrow.bias.detach(), content[f"{mlp}/Dense_1/bias"])
    for norm, name in ((layer.attention_norm, "LayerNorm_0"), (layer.mlp_norm, "LayerNorm_2")):
        np.testing.assert_array_equal(norm.weight.detach(), content[f"Transformer/encoderblock_0/{name}/scale"])
        np.testing.assert_array_equal(norm.bias.detach(), content[f"Transformer/encoderblock_0/{name}/bias"])
    np.testing.assert_array_equal(network.encoder.norm.weight.detach(), content["Transformer/encoder_norm/scale"])


def test_both_blocks_begin_with_the_files_embedding_and_positions(tmp_path: Path) -> None:
    content = weights()
    blocks = loaded(saved(tmp_path, content)).network.transformer_blocks()
    table = content["Transformer/posembed_input/pos_embedding"][0, 1:].reshape(14, 14, DIM)
    expected = zoom(table, (4 / 14, 5 / 14, 1), order=1).reshape(1, 20, DIM)
    assert len(blocks) == 2
    for block in blocks:
        np.testing.assert_array_equal(block.embed.weight.detach()[..., 0, 0], content["embedding/kernel"][0, 0].T)
        np.testing.assert_array_equal(block.embed.bias.detach(), content["embedding/bias"])
        np.testing.assert_allclose(block.position.detach(), expected, atol=1e-6)
    assert blocks[0].position is not blocks[1].position


def test_the_published_table_of_14_x_14_comes_to_16_x_16_with_its_corners_kept(tmp_path: Path) -> None:
    content = weights()
    network = loaded(saved(tmp_path, content), img_size=(256, 256)).network
    table = content["Transformer/posembed_input/pos_embedding"][0, 1:]
    positions = network.art[0].position.detach()[0]
    assert tuple(positions.shape) == (256, DIM)
    for ours, theirs in ((0, 0), (15, 13), (240, 182), (255, 195)):
        np.testing.assert_allclose(positions[ours], table[theirs], atol=1e-6)


def test_a_table_that_already_has_the_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    content = weights(grid=4)
    network = loaded(saved(tmp_path, content), img_size=(64, 64)).network
    expected = content["Transformer/posembed_input/pos_embedding"][:, 1:]
    np.testing.assert_array_equal(network.art[0].position.detach(), expected)


def test_what_the_file_has_nothing_of_begins_at_random(tmp_path: Path) -> None:
    file = saved(tmp_path, weights())
    torch.manual_seed(0)
    begun = loaded(file).network
    torch.manual_seed(0)
    plain = ResViT(1, 1, PLANE, **OPTIONS).network
    assert torch.equal(begun.art[0].down[0][0].weight, plain.art[0].down[0][0].weight)
    assert torch.equal(begun.encode[0][1].weight, plain.encode[0][1].weight)


def test_a_network_whose_weights_come_from_a_checkpoint_needs_no_file(tmp_path: Path) -> None:
    ResViT(1, 1, PLANE, initialise=False, vit_weights=tmp_path / "gone.npz", **OPTIONS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vit_weights: no file at .*gone\.npz"):
        loaded(tmp_path / "gone.npz")


def test_a_file_that_would_run_code_or_is_none_is_refused(tmp_path: Path) -> None:
    harmful = tmp_path / "harmful.npz"
    np.savez(harmful, **{"embedding/bias": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(SetupError, match="cannot be read as a NumPy archive"):
        loaded(harmful)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(SetupError, match="cannot be read as a NumPy archive"):
        loaded(broken)
    array = tmp_path / "array.npz"
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SetupError, match="cannot be read as a NumPy archive"):
        loaded(array)


def test_all_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    content = weights()
    del content["Transformer/encoderblock_1/LayerNorm_2/scale"]
    content["embedding/kernel"] = content["embedding/kernel"][:, :, :5]
    content["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"] = np.zeros((DIM, HIDDEN + 1), np.float32)
    content["Transformer/posembed_input/pos_embedding"] = np.zeros((1, 12, DIM), np.float32)
    with pytest.raises(SetupError) as caught:
        loaded(saved(tmp_path, content))
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4
    for part in (
        "no tensor 'Transformer/encoderblock_1/LayerNorm_2/scale'", "embedding/kernel has", "Dense_0/kernel has",
        "pos_embedding has",
    ):  # fmt: skip
        assert part in faults
