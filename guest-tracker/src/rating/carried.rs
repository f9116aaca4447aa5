//! What one request leaves to the next: stretches under way, tiers, sums and credits.

use super::text::join;
use crate::{Instant, RatingError, Request};

/// First bytes of every carried state that is not empty: name and version of its form.
const MAGIC: &[u8; 4] = b"TCS1";

/// A stretch that was under way when a period ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Under {
    /// When that was.
    pub(crate) at: Instant,
    /// The session it belongs to.
    pub(crate) session: u32,
    /// How long it had lasted, in nanoseconds.
    pub(crate) used_ns: u64,
    /// For how long it had been charged, in nanoseconds.
    pub(crate) charged_ns: u64,
}

/// What is noted of something. One form for all: a map for each would be half of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    /// A stretch's end, an invoice's or a period's beginning.
    at: Instant,
    /// A stretch's session; 1 for a count that ends with its invoice.
    session: u32,
    /// Time used, a quantity, nano-units.
    one: i128,
    /// Time charged.
    other: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// By meter and instance.
    Stretch,
    /// By rule and instance, which is empty for the tenant: a quantity that tiers go on from.
    Count,
    /// By rule: what was charged so far in the period.
    Sum,
    /// By adjustment: what of a credit is used.
    Credit,
}

const KINDS: [Kind; 4] = [Kind::Stretch, Kind::Count, Kind::Sum, Kind::Credit];

/// The notes of one kind and name, sorted by instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    kind: Kind,
    name: String,
    notes: Vec<(String, Note)>,
}

/// The carried state, taken apart: groups sorted by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Carried(Vec<Group>);

impl Carried {
    /// What the request before left, as far as it matters to this one.
    ///
    /// # Errors
    /// [`RatingError::InvalidCarried`] for bytes of another policy or version.
    pub(crate) fn of(request: &Request) -> Result<Self, RatingError> {
        let mut carried = Self::read(&request.carried).ok_or(RatingError::InvalidCarried)?;
        let (invoice, period) = (request.invoice, request.period);
        carried.keep(&|kind, note| match kind {
            Kind::Stretch => note.at == period.start || note.at == period.end,
            Kind::Count => note.session == 0 || note.at == invoice.start,
            Kind::Sum => note.at == period.start,
            Kind::Credit => true,
        });
        Ok(carried)
    }

    /// The stretch of an instance that was under way when the period began.
    pub(crate) fn under_way(&self, meter: &str, subject: &str, period: Instant) -> Option<Under> {
        let group = self.0.iter().find(|group| group.kind == Kind::Stretch && group.name == meter)?;
        let place = group.place(subject).ok()?;
        let Note { at, session, one, other } = group.notes[place].1;
        let (used_ns, charged_ns) = (u64::try_from(one).ok()?, u64::try_from(other).ok()?);
        (at == period).then_some(Under { at, session, used_ns, charged_ns })
    }

    /// Notes a stretch that is under way at the end of the period.
    pub(crate) fn leave(&mut self, meter: &str, subject: &str, under: Under) {
        let Under { at, session, used_ns, charged_ns } = under;
        *self.note(Kind::Stretch, meter, subject) = Note { at, session, one: used_ns.into(), other: charged_ns.into() };
    }

    /// How much was charged before under a rule, and from now on `more` on top. `invoice` is the one that it ends with; none if it never
    /// does.
    pub(crate) fn count(
        &mut self,
        rule: &str,
        subject: &str,
        invoice: Option<Instant>,
        more: u128,
    ) -> Result<u128, RatingError> {
        let note = self.note(Kind::Count, rule, subject);
        let before = note.one.cast_unsigned();
        let after = before.checked_add(more).and_then(|after| i128::try_from(after).ok());
        let (at, session) = (invoice.unwrap_or(0), u32::from(invoice.is_some()));
        *note = Note { at, session, one: after.ok_or(RatingError::Overflow)?, other: 0 };
        Ok(before)
    }

    /// Adds to what a rule has charged in the period.
    pub(crate) fn add(&mut self, rule: &str, period: Instant, nanos: i128) -> Result<(), RatingError> {
        let note = self.note(Kind::Sum, rule, "");
        let sum = note.one.checked_add(nanos).ok_or(RatingError::Overflow)?;
        *note = Note { at: period, session: 0, one: sum, other: 0 };
        Ok(())
    }

    /// What each rule has charged in the period, by name.
    pub(crate) fn sums(&self) -> Vec<(String, i128)> {
        let mut sums = Vec::new();
        for group in self.0.iter().filter(|group| group.kind == Kind::Sum) {
            for (_, note) in &group.notes {
                sums.push((join(&[&group.name]), note.one));
            }
        }
        sums
    }

    /// What of a credit is used.
    pub(crate) fn used(&mut self, credit: &str) -> &mut i128 {
        &mut self.note(Kind::Credit, credit, "").one
    }

    /// The bytes for the next request. With the last of a period, what only this period needed is dropped.
    pub(crate) fn left(mut self, request: &Request) -> Vec<u8> {
        let ends_invoice = request.last && request.period.end >= request.invoice.end;
        self.keep(&|kind, note| match kind {
            Kind::Stretch => !request.last || note.at == request.period.end,
            Kind::Count => note.one > 0 && !(ends_invoice && note.session != 0),
            Kind::Sum => !request.last,
            Kind::Credit => note.one != 0,
        });
        self.write()
    }

    /// The note of that name, made if there is none. Instances come in order, so that a new one goes to the end of its group.
    fn note(&mut self, kind: Kind, name: &str, subject: &str) -> &mut Note {
        let key = |group: &Group| group.kind < kind || (group.kind == kind && group.name.as_str() < name);
        let place = self.0.partition_point(key);
        if self.0.get(place).is_none_or(|group| group.kind != kind || group.name != name) {
            self.0.insert(place, Group { kind, name: join(&[name]), notes: Vec::new() });
        }
        let group = &mut self.0[place];
        let place = group.place(subject).unwrap_or_else(|place| {
            let fresh = Note { at: 0, session: 0, one: 0, other: 0 };
            group.notes.insert(place, (join(&[subject]), fresh));
            place
        });
        &mut group.notes[place].1
    }

    fn keep(&mut self, keeps: &dyn Fn(Kind, &Note) -> bool) {
        for group in &mut self.0 {
            group.notes.retain(|(_, note)| keeps(group.kind, note));
        }
        self.0.retain(|group| !group.notes.is_empty());
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.0.is_empty() {
            return out;
        }
        out.extend_from_slice(MAGIC);
        number(&mut out, self.0.len() as u128);
        for group in &self.0 {
            out.push(group.kind as u8);
            text(&mut out, &group.name);
            number(&mut out, group.notes.len() as u128);
            for (subject, note) in &group.notes {
                text(&mut out, subject);
                number(&mut out, zigzag(note.at.into()));
                number(&mut out, note.session.into());
                number(&mut out, zigzag(note.one));
                number(&mut out, zigzag(note.other));
            }
        }
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut carried = Self::default();
        if bytes.is_empty() {
            return Some(carried);
        }
        let mut from = Reader(bytes.strip_prefix(MAGIC)?);
        for _ in 0..from.number()? {
            let kind = *KINDS.get(usize::from(from.byte()?))?;
            let name = from.text()?;
            let mut notes = Vec::new();
            for _ in 0..from.number()? {
                let subject = from.text()?;
                let at = Instant::try_from(unzigzag(from.number()?)).ok()?;
                let session = u32::try_from(from.number()?).ok()?;
                let (one, other) = (unzigzag(from.number()?), unzigzag(from.number()?));
                notes.push((subject, Note { at, session, one, other }));
            }
            carried.0.push(Group { kind, name, notes });
        }
        (from.0.is_empty() && carried.is_sorted()).then_some(carried)
    }

    /// Whether it is what [`Carried::write`] writes, so that every search finds what is there.
    fn is_sorted(&self) -> bool {
        let groups = self.0.windows(2).all(|pair| (pair[0].kind, &pair[0].name) < (pair[1].kind, &pair[1].name));
        let notes = |group: &Group| group.notes.windows(2).all(|pair| pair[0].0 < pair[1].0) && !group.notes.is_empty();
        groups && !self.0.is_empty() && self.0.iter().all(notes)
    }
}

impl Group {
    fn place(&self, subject: &str) -> Result<usize, usize> {
        self.notes.binary_search_by(|(of, _)| of.as_str().cmp(subject))
    }
}

/// Signed numbers of either small size as small unsigned ones.
fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)).cast_unsigned()
}

fn unzigzag(value: u128) -> i128 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Seven bits a byte, the low ones first; the high bit says that more follow.
#[inline(never)]
fn number(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline(never)]
fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u128);
    out.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    #[inline(never)]
    fn number(&mut self) -> Option<u128> {
        let mut value = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    #[inline(never)]
    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        str::from_utf8(bytes).ok().map(|text| join(&[text]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use crate::rating::sample;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = String> {
        "[a-zä]{0,6}"
    }

    fn carried() -> impl Strategy<Value = Carried> {
        let note = (any::<i64>(), any::<u32>(), any::<i128>(), any::<i128>())
            .prop_map(|(at, session, one, other)| Note { at, session, one, other });
        let key = (prop::sample::select(KINDS.as_slice()), name(), name());
        prop::collection::vec((key, note), 0..12).prop_map(|notes| {
            let mut carried = Carried::default();
            for ((kind, name, subject), note) in notes {
                *carried.note(kind, &name, &subject) = note;
            }
            carried
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_found_again(carried in carried()) {
            prop_assert_eq!(Carried::read(&carried.write()), Some(carried));
        }

        #[test]
        fn cut_off_or_made_up_bytes_are_refused(carried in carried(), cut in any::<prop::sample::Index>(), other: Vec<u8>) {
            let bytes = carried.write();
            let cut = cut.index(bytes.len() + 1);
            prop_assert_eq!(Carried::read(&bytes[..cut]).is_some(), cut == bytes.len() || cut == 0);
            // Whatever it says, it says it without a panic.
            let _ = Carried::read(&other);
            let _ = Carried::read(&[MAGIC.as_slice(), &other].concat());
        }
    }

    #[test]
    fn what_only_the_invoice_needed_ends_with_it() {
        let mut request = sample::request(Span { start: 10, end: 20 });
        let mut carried = Carried::of(&request).expect("nothing");
        carried.count("monthly", "i", Some(10), 7).expect("fits");
        carried.count("for-ever", "i", None, 7).expect("fits");
        carried.add("monthly", 10, 5).expect("fits");
        *carried.used("gift") += 3;
        let under = |at| Under { at, session: 1, used_ns: 1, charged_ns: 2 };
        carried.leave("active", "gone", under(10));
        carried.leave("active", "lives", under(20));

        request.last = false;
        request.carried = carried.clone().left(&request);
        let part = Carried::of(&request).expect("ours");
        assert_eq!(part, carried);
        assert_eq!(part.under_way("active", "lives", 10), None, "it is of this period");

        request.last = true;
        let mut next = sample::request(Span { start: 20, end: 30 });
        next.carried = carried.left(&request);
        let mut later = Carried::of(&next).expect("ours");
        assert_eq!(later.count("for-ever", "i", None, 0), Ok(7));
        assert_eq!(later.count("monthly", "i", Some(20), 0), Ok(0));
        assert_eq!(later.sums().len(), 0);
        assert_eq!(*later.used("gift"), 3);
        assert_eq!(later.under_way("active", "lives", 20), Some(under(20)));
        assert_eq!(later.under_way("active", "gone", 20), None);
    }

    #[test]
    fn another_policys_bytes_are_refused() {
        let mut request = sample::request(Span { start: 0, end: 1 });
        request.carried = b"SOME1".to_vec();
        assert_eq!(Carried::of(&request), Err(RatingError::InvalidCarried));
    }
}
