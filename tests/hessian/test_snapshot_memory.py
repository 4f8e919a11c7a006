"""What a snapshot costs: one copy, wherever it lies; and one that does not fit is refused before anything moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_untouched, fingerprint
from torch import nn

import hessian
import lrfinder
from hessian import preserve
from hessian.errors import BadArgument
from hessian.snapshot import guard, memory, tensors

CPU = torch.device("cpu")


def asked(monkeypatch, *objects, place="device"):
    """The bytes that a snapshot says it needs."""
    seen = []
    monkeypatch.setattr(guard, "check_fits", seen.append)
    with preserve(*objects, snapshot=place):
        pass
    return seen[0]


def copied(monkeypatch, *objects):
    """The bytes that it really copies."""
    sizes = []
    real = tensors.copied
    monkeypatch.setattr(tensors, "copied", lambda stretch, place: sizes.append(stretch.end - stretch.start) or real(stretch, place))
    with preserve(*objects):
        pass
    return sum(sizes)


def size(values):
    return sum(value.nbytes for value in values)


def test_one_copy_of_parameters_buffers_and_optimizer_state(monkeypatch):
    model = nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 50)).sum().backward()
    optimizer.step()
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    expected = size([*model.parameters(), *model.buffers(), *state])
    assert asked(monkeypatch, model, optimizer) == {CPU: expected}
    assert copied(monkeypatch, model, optimizer) == expected


def test_what_is_shared_is_copied_once(monkeypatch):
    flat = torch.zeros(1000)
    model = nn.Sequential(nn.Linear(10, 50, bias=False), nn.Linear(10, 50, bias=False), nn.Linear(10, 50))
    model[0].weight.data, model[1].weight.data = flat[:500].view(50, 10), flat[250:750].view(50, 10)
    model[2].weight = model[0].weight
    model.register_buffer("flat", flat)
    model.register_buffer("wide", torch.zeros(1, 5).expand(100, 5))
    model.other = [flat[3:9], flat]
    expected = 4 * (1000 + 50 + 5)
    assert asked(monkeypatch, model) == {CPU: expected}
    assert copied(monkeypatch, model, model[0]) == expected


def test_only_what_is_looked_at_is_copied(monkeypatch):
    """Two small windows into a large storage."""
    large = torch.zeros(10_000)
    model = nn.Module()
    model.one, model.two = large[:10], large[9_000:9_005]
    assert asked(monkeypatch, model) == {CPU: 60}


@given(
    views=st.lists(
        st.tuples(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=3)), min_size=1, max_size=6
    ),
    kind=st.sampled_from([torch.float32, torch.float16, torch.complex64, torch.uint8]),
)
def test_any_views_of_one_buffer_are_copied_without_overlaps_and_come_back(views, kind):
    flat = torch.arange(120).to(kind)
    model = nn.Module()
    model.views = [flat.as_strided([size for size, _ in shape], [step for _, step in shape], offset) for offset, shape in views]
    spans = [
        range(offset, offset + sum((size - 1) * step for size, step in shape) + 1)
        for offset, shape in views
        if all(size for size, _ in shape)
    ]
    covered = {place for span in spans for place in span}
    assert sum(tensors.Layout(model.views).needed_bytes("device").values()) == flat.element_size() * len(covered)
    before = [view.tolist() for view in model.views]
    with preserve(model):
        flat.fill_(1)
    assert [view.tolist() for view in model.views] == before
    assert all(flat[place] == 1 for place in set(range(120)) - covered)  # what nobody showed us is not ours


def test_sparse_tensors_and_arrays_count(monkeypatch):
    model = nn.Module()
    model.register_buffer("graph", torch.eye(10).to_sparse())
    (needed,) = asked(monkeypatch, model).values()
    assert needed >= 40
    model.history = torch.zeros(10).numpy().copy()
    assert asked(monkeypatch, model) == {CPU: needed + 40}


def test_in_the_hosts_memory_everything_is_asked_of_it(monkeypatch):
    model = nn.Linear(10, 10, device="meta")
    assert asked(monkeypatch, model) == {CPU: 0}  # there is nothing to copy
    model = nn.Linear(10, 10)
    assert asked(monkeypatch, model, place="cpu") == {CPU: 440}


CALLS = {
    "find_lr": lrfinder.find_lr,
    "range_test": lrfinder.range_test,
    "stable_lr": hessian.stable_lr,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_that_does_not_fit_is_refused_before_anything_moves(call, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    model = nn.Linear(10, 3)
    model.register_buffer("table", torch.zeros(memory.SMALL // 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = [(torch.randn(4, 10), torch.randint(3, (4,)))]
    before = fingerprint(model, optimizer)
    with pytest.raises(BadArgument, match=r"needs .* GiB, but cpu has .* GiB free; free some") as caught:
        call(model, optimizer, data, nn.CrossEntropyLoss())
    assert_untouched(before, fingerprint(model, optimizer))
    assert "\n" not in str(caught.value)


def test_what_to_do_depends_on_where_it_would_lie(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**30)
    with pytest.raises(BadArgument, match=r'needs 3 GiB, but cuda:0 has 1 GiB free; pass snapshot="cpu"'):
        memory.check_fits({torch.device("cuda", 0): 3 * 2**30})
    memory.check_fits({CPU: 2**30})


# What Linux says: a tree of files in the place of /proc and /sys ------------------------------------------------------------------------


def machine(root, files):
    """A machine with 7 MiB to give, and more files."""
    for name, content in {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    7168 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def second(folder, most, used, cache=0):
    """A control group of version 2."""
    stat = f"anon 1\ninactive_file {cache}\nactive_file 99\n"
    return {f"{folder}/memory.max": f"{most}\n", f"{folder}/memory.current": f"{used}\n", f"{folder}/memory.stat": stat}


def first(folder, most, used, cache=0):
    """One of version 1."""
    stat = f"inactive_file 0\ntotal_inactive_file {cache}\n"
    names = {"memory.limit_in_bytes": most, "memory.usage_in_bytes": used}
    return {**{f"{folder}/{name}": f"{value}\n" for name, value in names.items()}, f"{folder}/memory.stat": stat}


MIB = 2**20
JOB = {"proc/self/cgroup": "0::/batch/job 7\n"}
OLD = {"proc/self/cgroup": "5:devices:/\n4:cpu,memory:/docker/12ab\n1:name=systemd:/\n0::/\n"}
TREES = {
    "no control groups": ({}, 7 * MIB),
    "a group without a limit": ({**JOB, **second("sys/fs/cgroup/batch/job 7", "max", 5 * MIB)}, 7 * MIB),
    "a group with a limit": ({**JOB, **second("sys/fs/cgroup/batch/job 7", 4 * MIB, 3 * MIB)}, MIB),
    "what it can give up counts as free": ({**JOB, **second("sys/fs/cgroup/batch/job 7", 4 * MIB, 3 * MIB, 2 * MIB)}, 3 * MIB),
    "a group above with a lower limit": (
        {**JOB, **second("sys/fs/cgroup/batch/job 7", 6 * MIB, MIB), **second("sys/fs/cgroup/batch", 3 * MIB, MIB)},
        2 * MIB,
    ),
    "a limit above what the machine has": ({**JOB, **second("sys/fs/cgroup/batch/job 7", 90 * MIB, MIB)}, 7 * MIB),
    "more used than allowed": ({**JOB, **second("sys/fs/cgroup/batch/job 7", 3 * MIB, 4 * MIB)}, 0),
    "in a container": ({"proc/self/cgroup": "0::/\n", **second("sys/fs/cgroup", 4 * MIB, MIB)}, 3 * MIB),
    "version 1": ({**OLD, **first("sys/fs/cgroup/memory/docker/12ab", 4 * MIB, 3 * MIB, MIB)}, 2 * MIB),
    "version 1 in a container": ({**OLD, **first("sys/fs/cgroup/memory", 4 * MIB, 3 * MIB)}, MIB),
    "version 1 without a limit": ({**OLD, **first("sys/fs/cgroup/memory/docker/12ab", 9223372036854771712, 3 * MIB)}, 7 * MIB),
    "files that make no sense": ({"proc/self/cgroup": "\n:\nmemory\n0::", **second("sys/fs/cgroup", "", "x")}, 7 * MIB),
    "another's group": ({**JOB, **second("sys/fs/cgroup/batch/job 8", MIB, MIB)}, 7 * MIB),
    "a machine that does not say": ({"proc/meminfo": "MemTotal: 100 kB\n"}, None),
    "a group on a machine that does not say": (
        {"proc/meminfo": "", **JOB, **second("sys/fs/cgroup/batch/job 7", 4 * MIB, 3 * MIB)},
        MIB,
    ),
}


@pytest.mark.parametrize(("files", "free"), TREES.values(), ids=TREES)
def test_free_memory_of_the_host_is_what_linux_gives_and_control_groups_allow(files, free, tmp_path):
    assert memory.free_host_bytes(machine(tmp_path, files)) == free


def test_where_there_is_no_linux_nothing_is_known(tmp_path):
    assert memory.free_host_bytes(tmp_path) is None


def test_a_copy_that_the_control_group_does_not_allow_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROOT", machine(tmp_path, {**JOB, **second("sys/fs/cgroup/batch/job 7", 8 * MIB, 3 * MIB)}))
    with preserve(nn.Linear(1000, 1200)):
        pass
    with pytest.raises(BadArgument, match=r"but cpu has 0\.00488 GiB free"), preserve(nn.Linear(1000, 1400)):
        pass


def test_a_small_copy_is_made_without_asking(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "free_bytes", lambda device: asked.append(device) or 100)
    memory.check_fits({CPU: memory.SMALL})
    assert not asked
    with pytest.raises(BadArgument):
        memory.check_fits({CPU: memory.SMALL + 1})


def test_where_free_memory_cannot_be_told_nothing_is_refused(monkeypatch):
    assert memory.free_bytes(torch.device("meta")) is None
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    memory.check_fits({CPU: 2**80})


def test_free_memory_of_a_gpu_includes_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert memory.free_bytes(torch.device("cuda", 0)) == 130


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_keywords_reach_preserve(call):
    """What the user's loss changes comes back if it is in ``keep``, from either place."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.default_generator.manual_seed(0)
    inputs = [torch.randn(8, 4) for _ in range(8)]
    data = [(batch, batch[:, :3].argmax(1)) for batch in inputs]
    record = {"seen": 0, "average": torch.zeros(1)}

    def loss_fn(model, batch):
        record["seen"] += 1
        record["average"].add_(1)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    small = {"find_lr": {"budget": "quick"}, "range_test": {"num_iter": 5}, "stable_lr": {"max_hvps": 5, "tol": 0.5}}
    name = next(name for name in CALLS if CALLS[name] is call)
    for place in ("device", "cpu"):
        call(model, optimizer, data, loss_fn=loss_fn, keep=[record], snapshot=place, **small[name])
        assert record == {"seen": 0, "average": torch.zeros(1)}
    call(model, optimizer, data, loss_fn=loss_fn, **small[name])
    assert record["seen"] > 0
