//! Several windows at once: what a value takes of an axis for more than one reason, as a score of a
//! query and a key takes of both.

use super::positions::{Coord, Notes, Positions};
use super::rows::Hull;
use crate::dim::Dim;

/// More windows than this are anywhere.
const MAX_PARTS: usize = 8;

/// Windows that no single form holds; one where one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    parts: Vec<Positions>,
}

impl Union {
    /// One window.
    pub fn of(positions: Positions) -> Union {
        Union { parts: vec![positions] }
    }

    /// The windows, at least one.
    pub fn parts(&self) -> &[Positions] {
        &self.parts
    }

    /// The window, if there is one only.
    pub fn single(&self) -> Option<&Positions> {
        match &self.parts[..] {
            [part] => Some(part),
            _ => None,
        }
    }

    /// What is to be said of any of the windows.
    pub fn notes(&self) -> Notes {
        self.parts.iter().fold(Notes::default(), |notes, part| notes.or(part.notes))
    }

    /// Adds windows.
    pub fn join(&mut self, other: &Union) {
        other.parts.iter().for_each(|part| self.add(part.clone()));
    }

    fn add(&mut self, mut part: Positions) {
        // What has grown may hold others that stood apart.
        while let Some((k, both)) = self.parts.iter().enumerate().find_map(|(k, p)| Some((k, p.join(&part)?)))
        {
            self.parts.remove(k);
            part = both;
        }
        self.parts.push(part);
        if self.parts.len() > MAX_PARTS {
            let notes = self.notes();
            self.parts = vec![Positions::unresolved().noting(notes)];
        }
    }

    /// The windows where their coordinates are positions of something else, on an axis of
    /// `extent` positions.
    pub fn compose(&self, resolve: &dyn Fn(Coord) -> Option<Positions>, extent: Option<&Dim>) -> Union {
        let mut composed = Union { parts: Vec::new() };
        for part in &self.parts {
            let positions = part.compose(resolve);
            composed.add(match extent {
                Some(extent) => positions.clipped(extent),
                None => positions,
            });
        }
        composed
    }

    /// Whether windows such as these, of all steps from `first` to `last`, reach as far as the open
    /// ends of `part` say.
    pub fn reaches(&self, part: &Positions, time: Coord, first: &Dim, last: &Dim, extent: &Dim) -> bool {
        let Some(hulls) = part.hulls() else { return false };
        let opens = |end: &dyn Fn(&Hull) -> bool| hulls.iter().flatten().any(end);
        let end_of = extent.sub(&Dim::ONE).ok();
        let begins = |low: &Dim| low.neg().is_ok_and(|d| d.is_non_negative());
        let ends =
            |high: &Dim| end_of.as_ref().is_some_and(|e| high.sub(e).is_ok_and(|d| d.is_non_negative()));
        let any = |step: &Dim, holds: &dyn Fn(&Hull) -> bool| {
            let at = |coord| (coord == time).then(|| Positions::constant(step));
            let windows = self.parts.iter().map(|p| p.compose(&at)).filter(|p| !p.notes.bound);
            windows.filter_map(|p| p.hulls()).flatten().flatten().any(|hull| holds(&hull))
        };
        let low = !opens(&|h| h.low.is_none()) || any(first, &|h| h.low.as_ref().is_none_or(begins));
        let high = !opens(&|h| h.high.is_none()) || any(last, &|h| h.high.as_ref().is_none_or(ends));
        low && high
    }

    /// The same, with a note on the windows that may be smaller: those with open ends that nothing
    /// confirms.
    pub fn noting_unless(&self, reached: &dyn Fn(&Positions) -> bool) -> Union {
        let open = |p: &Positions| {
            p.hulls().is_none_or(|hulls| hulls.iter().flatten().any(|h| h.low.is_none() || h.high.is_none()))
        };
        let part = |p: &Positions| {
            let bound = open(p) && !reached(p);
            p.clone().noting(Notes { bound, ..Notes::default() })
        };
        Union { parts: self.parts.iter().map(part).collect() }
    }

    /// `new` with the ends open of whatever has grown since `self`.
    pub fn widened(&self, new: &Union) -> Union {
        let mut wide = Union { parts: Vec::new() };
        for (k, part) in new.parts.iter().enumerate() {
            let part = match self.parts.get(k) {
                Some(_) if self.parts.contains(part) => part.clone(),
                Some(before) if self.parts.len() == new.parts.len() => before.widened(part),
                _ => Positions::unresolved().noting(part.notes),
            };
            wide.add(part);
        }
        wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stand_apart_until_one_holds_the_other() {
        let (i, j) = (Positions::coord(Coord::Axis(0)), Positions::coord(Coord::Axis(1)));
        let mut union = Union::of(i.clone());
        union.join(&Union::of(j.clone()));
        assert_eq!(union.parts(), [i.clone(), j.clone()]);
        // A row sees the positions up to its own.
        let up_to = Positions::from_to(None, Some(&i)).unwrap();
        let row = |coord| Some(if coord == Coord::Axis(0) { i.clone() } else { up_to.clone() });
        assert_eq!(union.compose(&row, None).single(), Some(&up_to));
        union.join(&Union::of(Positions::whole()));
        assert_eq!(union.single(), Some(&Positions::whole()));
    }
}
