//! A free list: memory that a thread keeps for its next use, so that most uses allocate none.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Unused items of a thread, at most `MAX`.
pub(crate) struct FreeList<T, const MAX: usize>(RefCell<Vec<T>>);

impl<T, const MAX: usize> FreeList<T, MAX> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Takes the item that was put last. `None` if there is none.
    #[inline]
    pub(crate) fn take(list: &'static LocalKey<Self>) -> Option<T> {
        list.try_with(|Self(items)| items.try_borrow_mut().ok()?.pop()).ok().flatten()
    }

    /// Puts an item back. It is dropped if the list is full, or the thread ends.
    #[inline]
    pub(crate) fn put(list: &'static LocalKey<Self>, item: T) {
        let _ = list.try_with(|Self(items)| {
            if let Ok(mut items) = items.try_borrow_mut()
                && items.len() < MAX
            {
                items.push(item);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static LIST: FreeList<u32, 2> = const { FreeList::new() };
    }

    #[test]
    fn list_has_a_maximum_and_belongs_to_its_thread() {
        assert_eq!(FreeList::take(&LIST), None);
        for item in 1..=3 {
            FreeList::put(&LIST, item);
        }
        std::thread::spawn(|| assert_eq!(FreeList::take(&LIST), None)).join().unwrap();
        assert_eq!([FreeList::take(&LIST), FreeList::take(&LIST), FreeList::take(&LIST)], [Some(2), Some(1), None]);
    }
}
