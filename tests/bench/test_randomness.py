"""Random numbers belong to an image: its batch, its turn and its neighbours do not matter."""

import torch
from zsad.bench.randomness import image_keys, normal_draws

IMAGES = torch.arange(4 * 3 * 8 * 8, dtype=torch.float32).reshape(4, 3, 8, 8)


def test_an_image_has_one_key_wherever_it_stands():
    keys = image_keys(IMAGES)
    assert len(set(keys)) == 4
    assert image_keys(IMAGES[[2, 0]]) == (keys[2], keys[0])
    assert image_keys(IMAGES.contiguous(memory_format=torch.channels_last)) == keys
    changed = IMAGES.clone()
    changed[1, 0, 0, 0] += 1e-3
    assert image_keys(changed)[1] != keys[1]


def test_draws_follow_seed_and_image_and_nothing_else():
    keys = image_keys(IMAGES)
    whole = normal_draws(7, keys, (50, 2))
    torch.manual_seed(3)
    again = normal_draws(7, keys[2:], (50, 2))
    assert torch.equal(whole[2:], again)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, normal_draws(8, keys, (50, 2)))
    assert abs(float(whole.mean())) < 0.2
    assert abs(float(whole.std()) - 1) < 0.2
