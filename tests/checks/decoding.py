"""Solutions of notebook 04's third exercise."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from pgpt_lib.checks import decoding as the_check


def decode_loop(model, prompt, end_id, most):
    scores, cache = model(prompt, None)
    answer = []
    for _ in range(most):
        token = int(np.argmax(scores))
        if token == end_id:
            break
        answer.append(token)
        if len(answer) < most:
            scores, cache = model([token], cache)
    return answer


def decode_while(model, prompt, end_id, most):
    answer, new, cache = [], prompt, None
    while len(answer) < most:
        scores, cache = model(new, cache)
        new = [scores.argmax()]
        if new[0] == end_id:
            return answer
        answer += new
    return np.array(answer)


def decode_generator(model, prompt, end_id, most):
    def tokens():
        scores, cache = model(prompt)
        while True:
            token = int(torch.as_tensor(scores).argmax())
            yield token
            scores, cache = model([token], cache)

    return torch.tensor(list(itertools.islice(itertools.takewhile(lambda t: t != end_id, tokens()), most)))


def decode_uncached(model, prompt, end_id, most):
    answer = []
    while len(answer) < most:
        scores, _ = model([*prompt, *answer], None)
        if scores.argmax() == end_id:
            break
        answer.append(int(scores.argmax()))
    return answer


def decode_twice(model, prompt, end_id, most):
    answer, cache = [], None
    while len(answer) < most:
        scores, cache = model([*prompt, *answer], cache)
        if scores.argmax() == end_id:
            break
        answer.append(int(scores.argmax()))
    return answer


def decode_forgetting(model, prompt, end_id, most):
    answer, new = [], prompt
    while len(answer) < most:
        scores, _ = model(new, None)
        new = [int(scores.argmax())]
        if new[0] == end_id:
            break
        answer += new
    return answer


def decode_endless(model, prompt, end_id, most):
    answer, new, cache = [], prompt, None
    for _ in range(most):
        scores, cache = model(new, cache)
        new = [int(scores.argmax())]
        answer += new
    return answer


def decode_with_end(model, prompt, end_id, most):
    answer = decode_loop(model, prompt, end_id, most)
    return answer if len(answer) == most else [*answer, end_id]


def decode_raises(model, prompt, end_id, most):
    return model([], None)


RIGHT = {"check_cached_decoding": [decode_loop, decode_while, decode_generator]}
WRONG = {
    "check_cached_decoding": [
        (decode_uncached, "read again for each new one"),
        (decode_twice, "reads every token twice"),
        (decode_forgetting, "sees the last token alone"),
        (decode_endless, "goes on after the token that ends it"),
        (decode_with_end, "holds the token that ends it"),
        (lambda m, p, e, n: [*p, *decode_loop(m, p, e, n)], "begins with the prompt"),
        (lambda m, p, e, n: decode_loop(m, p, e, n)[1:], "lacks its first token"),
        (decode_raises, "raised ValueError"),
        (lambda m, p, e, n: the_check._decode(m, p, e, n), "calls _decode, which is the answer already"),
        (lambda m, p, e, n: None, "return statement"),
    ]
}
