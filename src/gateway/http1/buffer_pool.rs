//! Buffers that a thread keeps for its next request. The allocator has a fast path for memory of up to 1 KiB; what is larger costs it some
//! 300 instructions.

use bytes::BytesMut;

use crate::free_list::FreeList;

/// Buffers of at most this size are left to the allocator.
const SMALL_MAX: usize = 1024;
/// The capacity of a buffer of the pool. Larger ones are left to the allocator.
const CAPACITY: usize = 4 * 1024;
/// How many unused buffers a thread keeps.
const UNUSED_MAX: usize = 64;

thread_local! {
    static UNUSED: FreeList<BytesMut, UNUSED_MAX> = const { FreeList::new() };
}

/// An empty buffer of at least this capacity.
#[inline]
pub(super) fn take(capacity: usize) -> BytesMut {
    if capacity <= SMALL_MAX || capacity > CAPACITY {
        return BytesMut::with_capacity(capacity);
    }
    FreeList::take(&UNUSED).unwrap_or_else(|| BytesMut::with_capacity(CAPACITY))
}

/// Puts a buffer back that is not used any more. It is dropped if it is none of the pool, or a part of it is still in use.
#[inline]
pub(super) fn put(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(CAPACITY) && buffer.capacity() == CAPACITY {
        FreeList::put(&UNUSED, buffer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    /// The capacity, and whether the same memory is taken again after it was put back.
    fn is_reused(capacity: usize, used: impl FnOnce(&mut BytesMut)) -> (usize, bool) {
        let mut buffer = take(capacity);
        buffer.extend_from_slice(&[0; 800]);
        let (capacity, address) = (buffer.capacity(), buffer.as_ptr());
        used(&mut buffer);
        put(buffer);
        let unused = FreeList::take(&UNUSED);
        (capacity, unused.is_some_and(|unused| unused.is_empty() && unused.as_ptr() == address))
    }

    #[test]
    fn buffers_of_the_pool_are_reused() {
        for capacity in [SMALL_MAX + 1, 2_000, CAPACITY] {
            assert_eq!(is_reused(capacity, |_| {}), (CAPACITY, true), "{capacity}");
            assert_eq!(is_reused(capacity, |buffer| buffer.advance(700)), (CAPACITY, true), "{capacity}");
        }
        for capacity in [SMALL_MAX, CAPACITY + 1] {
            assert_eq!(is_reused(capacity, |_| {}), (capacity, false), "{capacity}");
        }
    }

    #[test]
    fn buffer_is_not_reused_while_a_part_of_it_is_in_use() {
        let mut part = BytesMut::new();
        assert_eq!(is_reused(2_000, |buffer| part = buffer.split_to(500)), (CAPACITY, false));
        assert_eq!(is_reused(2_000, |buffer| buffer.extend_from_slice(&[0; CAPACITY])), (CAPACITY, false));
        assert_eq!(part, vec![0; 500]);
    }
}
