"""Parts of a long clip: which frames must come along with some, for them to be drawn as a part of the whole."""

from .attention import AttentionMode


def frames_before(start: int, attention: AttentionMode) -> list[int]:
    """The frames before ``start`` that the self-attention of the frames from ``start`` on looks at, in order.

    These are the clip's first frame and the one before ``start``, as far as the mode wants them. Set before the
    frames from ``start`` on, they make a shorter clip in which each of these finds its first and previous frame by
    position, as in the whole clip. Of "all", which looks at every frame, the same two are taken.
    """
    first, previous = [0], [start - 1]
    wanted = {
        "first+previous": first + previous,
        "first": first,
        "previous": previous,
        "all": first + previous,
        "off": [],
    }[attention]
    return sorted({frame for frame in wanted if 0 <= frame < start})
