//! Values of the contract as they lie in a component's memory (the canonical ABI), so that a
//! component can return any answer, also one that no policy would give.

use tallyman::policy::metering::{
    Description, Measurement, MeterDescription, MeterTerms, OptionDescription, OptionKind, OwnLine,
    U128Words,
};

/// Memory from an address on.
#[derive(Debug, Clone)]
pub(super) struct Image {
    base: u32,
    bytes: Vec<u8>,
}

/// A record under way: fields, each at its alignment.
#[derive(Debug, Default)]
struct Record(Vec<u8>);

impl Record {
    fn aligned(mut self, align: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(align), 0);
        self
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u32(self, value: u32) -> Self {
        let mut record = self.aligned(4);
        record.0.extend(value.to_le_bytes());
        record
    }

    fn u64(self, value: u64) -> Self {
        let mut record = self.aligned(8);
        record.0.extend(value.to_le_bytes());
        record
    }

    fn u128(self, value: U128Words) -> Self {
        self.u64(value.lower).u64(value.upper)
    }

    /// A text or a list that is already placed.
    fn piece(self, (address, length): (u32, u32)) -> Self {
        self.u32(address).u32(length)
    }
}

impl Image {
    /// An empty image that begins at this address.
    pub(super) fn at(base: u32) -> Self {
        Self { base, bytes: Vec::new() }
    }

    /// The first address after the image.
    pub(super) fn end(&self) -> u32 {
        self.base + self.bytes.len() as u32
    }

    /// The bytes as WebAssembly's text format writes them.
    pub(super) fn escaped(&self) -> String {
        self.bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
    }

    fn place(&mut self, bytes: &[u8], align: usize) -> u32 {
        // The base is aligned to more than any value.
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let address = self.end();
        self.bytes.extend_from_slice(bytes);
        address
    }

    fn text(&mut self, text: &str) -> (u32, u32) {
        (self.place(text.as_bytes(), 1), text.len() as u32)
    }

    fn list(&mut self, items: Vec<Record>, align: usize) -> (u32, u32) {
        let count = items.len() as u32;
        let bytes: Vec<u8> = items.into_iter().flat_map(|item| item.aligned(align).0).collect();
        (self.place(&bytes, align), count)
    }

    /// Places a description, and returns its address.
    pub(super) fn description(&mut self, of: &Description) -> u32 {
        let meters = of.meters.iter().map(|meter| self.meter(meter)).collect();
        let meters = self.list(meters, 4);
        let options = of.options.iter().map(|option| self.option(option)).collect();
        let options = self.list(options, 4);
        let record = Record::default().piece(meters).piece(options).u32(of.billed_ratio);
        self.place(&record.0, 4)
    }

    fn meter(&mut self, of: &MeterDescription) -> Record {
        let name = self.text(&of.name);
        let counts = self.text(&of.counts);
        Record::default().piece(name).piece(counts).u8(of.stretch as u8)
    }

    fn option(&mut self, of: &OptionDescription) -> Record {
        let name = self.text(&of.name);
        let (case, words) = match &of.kind {
            OptionKind::Duration => (0, (0, 0)),
            OptionKind::Choice(words) => {
                let words =
                    words.iter().map(|word| Record::default().piece(self.text(word))).collect();
                (1, self.list(words, 4))
            }
            OptionKind::Text => (2, (0, 0)),
        };
        let default = self.text(&of.default);
        let does = self.text(&of.does);
        Record::default().piece(name).u8(case).piece(words).piece(default).piece(does)
    }

    /// Places terms, and returns their address and number.
    pub(super) fn terms(&mut self, of: &[MeterTerms]) -> (u32, u32) {
        let terms = |terms: &MeterTerms, image: &mut Self| {
            let name = image.text(&terms.name);
            let record = Record::default().piece(name).u8(terms.stretch as u8);
            record.u64(terms.minimum).u64(terms.granularity).u8(terms.rounding as u8)
        };
        let terms = of.iter().map(|one| terms(one, self)).collect();
        self.list(terms, 8)
    }

    /// Places a measurement as the good case of a result, and returns its address; it has 28 bytes.
    pub(super) fn measurement(&mut self, of: &Measurement) -> u32 {
        let terms = self.terms(&of.terms);
        let counted = of.counted.iter().map(|&mask| Record::default().u64(mask)).collect();
        let counted = self.list(counted, 8);
        let lines = of.lines.iter().map(|line| self.line(line)).collect();
        let lines = self.list(lines, 8);
        self.place(&Record::default().u32(0).piece(terms).piece(counted).piece(lines).0, 4)
    }

    fn line(&mut self, of: &OwnLine) -> Record {
        let rule = self.text(&of.rule);
        let meter = self.text(&of.meter);
        let ranges = of
            .intervals
            .iter()
            .map(|range| Record::default().u32(range.first).u32(range.end))
            .collect();
        let ranges = self.list(ranges, 4);
        let unit = self.text(&of.unit);
        let price = self.text(&of.price_id);
        let description = self.text(&of.description);
        let record = Record::default().piece(rule).piece(meter);
        let record = record.u8(of.subject.is_some().into()).u32(of.subject.unwrap_or_default());
        let record = record.piece(ranges).piece(unit).u128(of.quantity).u128(of.billed);
        record.piece(price).piece(description)
    }
}
