//! Holds documents for as long as values borrow from them. It only grows; nothing in it ever moves.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use crate::json::Object;

const FIRST_ROOM: usize = 8;
const ROOMS: usize = 32;

type Slot = OnceCell<Arc<Object>>;

/// Documents that values may borrow from.
#[derive(Debug, Default)]
pub struct Arena {
    /// Each room has twice the slots of the one before.
    rooms: [OnceCell<Box<[Slot]>>; ROOMS],
    kept: Cell<usize>,
}

impl Arena {
    /// Keeps a document as long as the arena lives.
    pub fn keep(&self, document: Arc<Object>) -> &Object {
        let number = self.kept.replace(self.kept.get() + 1);
        let room = (number / FIRST_ROOM + 1).ilog2() as usize;
        let first = FIRST_ROOM * ((1 << room) - 1);
        let slots = self.rooms[room].get_or_init(|| vec![Slot::new(); FIRST_ROOM << room].into());
        slots[number - first].get_or_init(|| document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    #[test]
    fn what_is_kept_stays() {
        let arena = Arena::default();
        let kept: Vec<&Object> = (0..1_000)
            .map(|number| {
                let mut object = Object::new();
                object.insert("n", Json::Int(number));
                arena.keep(Arc::new(object))
            })
            .collect();
        for (number, object) in kept.iter().enumerate() {
            assert_eq!(object.get("n"), Some(&Json::Int(number as i64)));
        }
    }
}
