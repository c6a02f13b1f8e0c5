import math
import signal
import threading

import pytest
import torch
from planted import generator, matrix, planted

from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Basis, Operator, Room, norm, random_unit
from unstuck.interrupts import Interrupts
from unstuck.space import Space


def filled_basis(rows: int, size: int) -> tuple[Basis, torch.Tensor]:
    basis = Basis(planted([1.0] * size))
    orthonormal = torch.linalg.qr(torch.randn(size, rows, generator=generator(), dtype=torch.float64))[0].T
    for row in orthonormal:
        basis.append(row)
    return basis, orthonormal


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 150])
def test_a_basis_in_chunks_acts_as_one_matrix(rows):
    basis, whole = filled_basis(rows, 200)
    vector = torch.arange(200, dtype=torch.float64)
    left, taken = basis.orthogonalise(vector)
    torch.testing.assert_close(basis.coordinates(vector), whole @ vector)
    torch.testing.assert_close(taken, whole @ vector)
    torch.testing.assert_close(left, vector - whole.T @ (whole @ vector))
    torch.testing.assert_close(basis.combine(torch.ones(rows, dtype=torch.float64)), whole.sum(dim=0))


def test_rotating_a_basis_multiplies_its_rows_and_keeps_the_one_after_them():
    basis, whole = filled_basis(140, 200)
    rotation = torch.randn(139, 70, generator=generator(1), dtype=torch.float64)
    basis.rotate(rotation)
    assert len(basis) == 71
    torch.testing.assert_close(torch.stack([basis[i] for i in range(70)]), rotation.T @ whole[:139])
    torch.testing.assert_close(basis[70], whole[139])


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_rows_of_half_the_memory_act_as_what_they_were_rounded_to_but_for_the_newest_two(rows):
    like = torch.zeros(200_000)
    basis = Basis(Operator(lambda vector: vector, len(like), like), halved=True)
    exact = torch.randn(rows, len(like), generator=generator()) / len(like) ** 0.5
    for row in exact:
        basis.append(row)
    kept = exact.bfloat16().float()
    kept[-2:] = exact[-2:]
    vector = torch.linspace(-1.0, 1.0, len(like))
    torch.testing.assert_close(torch.stack([basis[index] for index in range(rows)]), kept, rtol=0.0, atol=0.0)
    exactly = (kept.double() @ vector.double()).float()
    torch.testing.assert_close(basis.coordinates(vector), exactly, rtol=0.0, atol=3e-7 * float(vector.norm()))
    weights = torch.arange(1.0, rows + 1.0)
    torch.testing.assert_close(basis.combine(weights), weights @ kept)


def test_rotating_rows_of_half_the_memory_keeps_the_one_after_them_as_it_was():
    like = torch.zeros(100_000)
    basis = Basis(Operator(lambda vector: vector, len(like), like), halved=True)
    exact = torch.randn(6, len(like), generator=generator())
    for row in exact:
        basis.append(row)
    kept = exact.bfloat16().float()
    kept[-2:] = exact[-2:]
    rotation = torch.randn(5, 3, generator=generator(1))
    basis.rotate(rotation)
    assert len(basis) == 4
    assert torch.equal(basis[3], exact[5])
    rotated = (rotation.T @ kept[:5]).bfloat16().float()
    torch.testing.assert_close(
        torch.stack([basis[index] for index in range(3)]), rotated, rtol=0.01, atol=1e-6
    )


def test_long_vectors_of_float32_are_held_in_half_where_memory_is_short_of_a_run():
    long, short = torch.zeros(1_000_000), torch.zeros(1000)
    assert Room.of(1e9, long, 512) == Room(250)
    assert Room.of(40 * 4e6, long, 512) == Room(80, halved=True)
    assert Room.of(40 * 4e6, long, 30) == Room(30)
    assert Room.of(40 * 4e3, short, 512) == Room(40)
    assert Room.of(20 * 8e6, long.double(), 512) == Room(20)
    assert Room.of(0.0, short, 512) == Room(8)
    assert Room.of(math.inf, short, 512) == Room(512)


def test_inner_products_of_long_vectors_in_float32_are_as_exact_as_those_of_short_ones():
    vector = torch.randn(5_000_000, generator=generator())
    assert norm(vector) == pytest.approx(float(vector.double().norm()), rel=2e-7)
    assert Space(len(vector)).norm(vector) == pytest.approx(float(vector.double().norm()), rel=2e-7)


def test_a_random_start_is_a_unit_vector_that_only_the_generator_decides():
    operator = planted([1.0] * 30)
    before = torch.random.get_rng_state()
    first, second = (random_unit(operator, generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert norm(first) == pytest.approx(1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_ctrl_c_waits_until_the_block_is_done():
    done = []

    def work():
        with Interrupts().held():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_shards_on_two_processes_give_the_same_run_as_one_vector():
    symmetric = matrix([float(i) for i in range(-5, 15)])
    start = torch.randn(20, generator=generator(), dtype=torch.float64)
    barrier, parts, shards, runs = (
        threading.Barrier(2),
        [None, None],
        [slice(0, 7), slice(7, 20)],
        [None, None],
    )

    def everywhere(rank, mine):
        parts[rank] = mine
        barrier.wait()
        both = list(parts)
        barrier.wait()
        return both

    def process(rank):
        local = Operator(
            lambda shard: (symmetric @ torch.cat(everywhere(rank, shard)))[shards[rank]],
            20,
            start[shards[rank]],
            reduce=lambda partial: sum(everywhere(rank, partial)),
        )
        runs[rank] = Lanczos(local, start[shards[rank]], room=Room(12))
        for _ in range(18):
            runs[rank].step()

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Lanczos(Operator(lambda vector: symmetric @ vector, 20, start), start, room=Room(12))
    for _ in range(18):
        alone.step()
    for run in runs:
        assert run.ritz().values == pytest.approx(alone.ritz().values, abs=1e-9)
