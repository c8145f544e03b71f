//! Whose turn it is where more waits than is read at once: a line for each client, and all lines in turn.
//!
//! What has come in lies in a ring in the order of its arrival, and whoever floods lies in front of everybody else. So what
//! waits is read ahead of its turn, at the price of reading, and put into its sender's line; then the lines are served in
//! turn. That is deficit round robin (Shreedhar and Varghese, SIGCOMM 1995), in the form for costs that are known only
//! afterwards (surplus round robin: Adiseshu, Parulkar and Varghese, SIGCOMM 1996). How long a line may be, the room
//! that is left says (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). All of it
//! is O(1) for each datagram and allocates nothing.

use std::collections::VecDeque;

/// How much is served before what came in meanwhile is read, in datagrams sent: as many as are read at once.
pub const SERVED_AT_ONCE: u32 = 64;
/// How many looks are read in a row, as long as each brings all that it can: a ring of them. Then something is served.
pub const LOOKS_AHEAD: u32 = 64;
/// Room for what waits, in datagrams: twice a ring and a little more ([`Turns`] says why).
pub const WAITING_ROOM: u32 = 8704;
/// One part of so many of the room that is left is for control messages alone.
const CONTROL_PART: u32 = 16;

/// No slot.
const NONE: u32 = u32::MAX;

/// A datagram that waits.
#[derive(Debug)]
struct Slot<T> {
    item: T,
    /// Behind it in its line, or among those that are free.
    next: u32,
}

/// What waits of one client, in the order of its arrival.
#[derive(Debug, Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
    len: u32,
    /// What it may still cost in this round, in datagrams sent.
    credit: i64,
}

/// The lines of all.
///
/// A line may be as long as there is room left, but for a little: a FIN behind a flood is not dropped with it. So one that is alone takes half of the room, and n of them that get longer
/// and longer 1/(n + 1) each. With room for two rings nothing is dropped of what one ring held, whoever it is from, where
/// nothing waited before; and n that flood may have at least 1/n of a ring each.
#[derive(Debug)]
pub struct Turns<T> {
    slots: Vec<Slot<T>>,
    /// The first slot that was used and is free.
    free: u32,
    room: u32,
    waiting: u32,
    lines: Vec<Line>,
    /// Lines in which something waits; whose turn it is stands in front.
    order: VecDeque<u32>,
    /// What a line may cost in each round.
    quantum: i64,
    /// What may still be served in this turn of the loop.
    left: i64,
    /// Looks of this turn.
    looks: u32,
    /// Whose the last one was.
    current: u32,
}

impl<T: Copy> Turns<T> {
    /// So many lines, with room for so many datagrams; an answer sends `quantum` datagrams at most, its dummies among them.
    pub fn new(lines: usize, room: u32, quantum: u32) -> Self {
        let empty = Line { first: NONE, last: NONE, len: 0, credit: 0 };
        Self {
            slots: Vec::with_capacity(room as usize),
            free: NONE,
            room,
            waiting: 0,
            lines: vec![empty; lines],
            order: VecDeque::with_capacity(lines),
            quantum: i64::from(quantum.max(1)),
            left: 0,
            looks: 0,
            current: 0,
        }
    }

    /// In how many lines something waits.
    pub fn lines_waiting(&self) -> usize {
        self.order.len()
    }

    /// The loop turns: it may read ahead, and serve, anew.
    pub fn begin(&mut self) {
        (self.left, self.looks) = (i64::from(SERVED_AT_ONCE), 0);
    }

    /// Whether the next look is to be read before something is served, after one that was `full`.
    pub fn reads_on(&mut self, full: bool) -> bool {
        self.looks += 1;
        full && self.looks < LOOKS_AHEAD
    }

    /// Puts a datagram at the end of a line; `is_control`: it is neither ping nor pong. `false`: the line is as long as it may
    /// be, and the datagram is to be dropped.
    pub fn line_up(&mut self, line: usize, item: T, is_control: bool) -> bool {
        let Some(Line { len, .. }) = self.lines.get(line) else { return false };
        let left = self.room - self.waiting;
        let spared = if is_control { 0 } else { left / CONTROL_PART };
        if *len >= left - spared {
            return false;
        }
        let slot = Slot { item, next: NONE };
        let at = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let next = std::mem::replace(free, slot).next;
                std::mem::replace(&mut self.free, next)
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.waiting += 1;
        let this = &mut self.lines[line];
        this.len += 1;
        let before = std::mem::replace(&mut this.last, at);
        if before == NONE {
            this.first = at;
            // What it has not used is gone with its turn, what it has overdrawn is not.
            this.credit = this.credit.min(0) + self.quantum;
            self.order.push_back(line as u32);
        } else {
            self.slots[before as usize].next = at;
        }
        true
    }

    /// The datagram whose turn it is; `None` where nothing waits, or enough was served. What its answer took is said next
    /// ([`Turns::charge`]).
    pub fn call(&mut self) -> Option<T> {
        if self.left <= 0 {
            return None;
        }
        // One round at most: no answer costs more than a line gets in a round.
        for _ in 0..self.order.len() {
            let &at = self.order.front()?;
            let line = &mut self.lines[at as usize];
            if line.credit > 0 {
                break;
            }
            line.credit += self.quantum;
            self.order.rotate_left(1);
        }
        let &at = self.order.front()?;
        let line = &mut self.lines[at as usize];
        let slot = &mut self.slots[line.first as usize];
        let next = std::mem::replace(&mut slot.next, self.free);
        self.free = std::mem::replace(&mut line.first, next);
        line.len -= 1;
        if next == NONE {
            line.last = NONE;
            self.order.pop_front();
        }
        (self.waiting, self.current) = (self.waiting - 1, at);
        Some(slot.item)
    }

    /// What waits in a line, in the order of its arrival.
    pub fn waiting_in(&self, line: usize) -> impl Iterator<Item = &T> {
        let mut at = self.lines.get(line).map_or(NONE, |line| line.first);
        std::iter::from_fn(move || {
            let Slot { item, next } = self.slots.get(at as usize)?;
            at = *next;
            Some(item)
        })
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        while let Some(line) = self.order.pop_front() {
            let line = &mut self.lines[line as usize];
            *line = Line { first: NONE, last: NONE, len: 0, ..*line };
        }
        self.slots.clear();
        (self.free, self.waiting) = (NONE, 0);
    }

    /// So many datagrams were sent for the one that was called last.
    pub fn charge(&mut self, sent: u32) {
        // Looking at it costs something too.
        let cost = i64::from(sent.max(1));
        self.left -= cost;
        if let Some(line) = self.lines.get_mut(self.current as usize) {
            line.credit -= cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(turns: &mut Turns<(usize, u32)>, cost: impl Fn(usize) -> u32) -> Vec<(usize, u32)> {
        turns.begin();
        let mut called = vec![];
        while let Some(item) = turns.call() {
            called.push(item);
            turns.charge(cost(item.0));
        }
        called
    }

    #[test]
    fn lines_are_served_in_turn_and_each_in_its_order() {
        let mut turns = Turns::new(3, 100, 1);
        for n in 0..4 {
            assert!(turns.line_up(0, (0, n), true));
        }
        assert!(turns.line_up(2, (2, 0), true) && turns.line_up(2, (2, 1), true) && turns.line_up(1, (1, 0), true));
        assert_eq!(turns.lines_waiting(), 3);
        assert_eq!(Vec::from_iter(turns.waiting_in(2)), [&(2, 0), &(2, 1)]);
        assert_eq!((turns.waiting_in(0).count(), turns.waiting_in(3).count()), (4, 0));
        assert_eq!(called(&mut turns, |_| 1), [(0, 0), (2, 0), (1, 0), (0, 1), (2, 1), (0, 2), (0, 3)]);
        assert_eq!((turns.lines_waiting(), turns.waiting, turns.waiting_in(0).count()), (0, 0, 0));
    }

    #[test]
    fn no_more_is_served_at_once_than_is_read_at_once() {
        let mut turns = Turns::new(1, 1000, 4);
        for n in 0..100 {
            turns.line_up(0, (0, n), true);
        }
        assert_eq!(called(&mut turns, |_| 4).len(), SERVED_AT_ONCE as usize / 4);
        assert_eq!(called(&mut turns, |_| 0).first(), Some(&(0, 16)));
        assert_eq!(turns.waiting, 100 - 16 - SERVED_AT_ONCE);
    }

    #[test]
    fn what_is_shared_is_what_is_sent() {
        // One has four datagrams sent for each of its own, the other one.
        let mut turns = Turns::new(2, 10_000, 4);
        for n in 0..2000 {
            assert!(turns.line_up(0, (0, n), true) && turns.line_up(1, (1, n), true));
        }
        let mut sent = [0; 2];
        for _ in 0..20 {
            for (line, _) in called(&mut turns, |line| [4, 1][line]) {
                sent[line] += [4, 1][line];
            }
        }
        assert!(i32::abs(sent[0] - sent[1]) <= 8, "{sent:?}");
    }

    #[test]
    fn a_line_may_be_as_long_as_there_is_room_left() {
        let mut turns = Turns::new(4, 120, 1);
        let fill = |turns: &mut Turns<u32>, line| (0..).take_while(|n| turns.line_up(line, *n, true)).count();
        assert_eq!(fill(&mut turns, 0), 60);
        assert_eq!(fill(&mut turns, 1), 30);
        // The first one gets shorter, and its room is the others'.
        turns.begin();
        for _ in 0..60 {
            turns.call().unwrap();
            turns.charge(1);
        }
        assert_eq!(turns.waiting, 30);
        // Those that get longer and longer at one pace have the same.
        let mut of = [0; 4];
        let mut turns = Turns::new(4, 120, 1);
        for _ in 0..100 {
            for (line, of) in of.iter_mut().enumerate() {
                *of += u32::from(turns.line_up(line, 0, true));
            }
        }
        assert_eq!(of, [24; 4]);
        assert!(!turns.line_up(4, 0, true), "no such line");
    }

    #[test]
    fn a_control_message_has_room_behind_a_flood() {
        let mut turns = Turns::new(2, 3200, 1);
        let pings = (0..).take_while(|n| turns.line_up(0, *n, false)).count();
        let controls = (0..).take_while(|n| turns.line_up(0, *n, true)).count();
        assert_eq!(pings + controls, 1600);
        assert!((40..60).contains(&controls), "{controls}");
    }

    #[test]
    fn what_is_dropped_leaves_all_the_room() {
        let fill = |turns: &mut Turns<u32>, line| (0..).take_while(|n| turns.line_up(line, *n, true)).count();
        let mut turns = Turns::new(3, 120, 1);
        assert_eq!((fill(&mut turns, 0), fill(&mut turns, 2)), (60, 30));
        turns.clear();
        assert_eq!((turns.lines_waiting(), turns.waiting, turns.waiting_in(0).count()), (0, 0, 0));
        assert_eq!((fill(&mut turns, 2), fill(&mut turns, 0)), (60, 30));
        turns.begin();
        assert_eq!((turns.call(), turns.slots.len()), (Some(0), 90));
    }

    #[test]
    fn what_one_ring_held_has_room() {
        let mut turns = Turns::new(2, WAITING_ROOM, 1);
        let ring = 64 * LOOKS_AHEAD;
        assert!((0..ring).all(|n| turns.line_up(0, n, false)));
    }
}
