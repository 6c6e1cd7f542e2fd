//! The structure of a usearch 2 image, checked before it is viewed: usearch follows its links without looking.
//!
//! ```text
//! rows u32, columns u32 (bytes per vector)
//! rows × columns   vectors
//! 64               head: magic "usearch", versions, kinds, counts
//! 5 × u64          nodes, connectivity, connectivity at level 0, highest level, entry node
//! nodes × i16      levels
//! nodes            key u64, level i16, then per level: links u32, connectivity × u32
//! ```

use tarn_model::Metric;

/// usearch's codes: `metric_kind_t` and `scalar_kind_t`.
const KIND_IP: u8 = b'i';
const KIND_L2: u8 = b'e';
const KIND_BF16: u8 = 4;
const KIND_U64: u8 = 14;
const KIND_U32: u8 = 15;
const HEAD: usize = 64;
const HEADER: usize = 40;
const NODE_HEAD: usize = 10;

/// Expected and found of the first thing that is wrong.
type Fault = (String, String);

/// Checks everything that a search follows: sizes, kinds, the entry, and each node's key, level and links.
pub(super) fn check(image: &[u8], rows: u32, dimension: u32, metric: Metric) -> Result<(), Fault> {
    let mut rest = Rest { bytes: image };
    let columns = dimension.saturating_mul(2);
    expect("rows", u64::from(rows), u64::from(rest.u32()?))?;
    expect("bytes per vector", u64::from(columns), u64::from(rest.u32()?))?;
    rest.take(rows as usize * columns as usize)?;
    check_head(rest.take(HEAD)?, rows, dimension, metric)?;

    let mut header = Rest { bytes: rest.take(HEADER)? };
    expect("nodes", u64::from(rows), header.u64()?)?;
    let (connectivity, base) = (header.u64()?, header.u64()?);
    let (highest, entry) = (header.u64()?, header.u64()?);
    let most = u64::from(tarn_model::limits::HNSW_M);
    if connectivity < 2 || connectivity > most || base < connectivity || base > 2 * most {
        return Err((format!("connectivity from 2 to {most}"), format!("{connectivity} and {base}")));
    }
    if rows == 0 {
        return rest.end();
    }
    let levels = rest.take(rows as usize * 2)?;
    let level = |node: u32| i16::from_le_bytes([levels[node as usize * 2], levels[node as usize * 2 + 1]]);
    let top = u32::try_from(entry).ok().filter(|&entry| entry < rows).map(level);
    if top.and_then(|top| u64::try_from(top).ok()) != Some(highest) {
        return Err((format!("an entry node of level {highest}"), format!("node {entry}")));
    }
    let mut seen = vec![false; rows as usize];
    for node in 0..rows {
        let mut head = Rest { bytes: rest.take(NODE_HEAD)? };
        let key = usize::try_from(head.u64()?).unwrap_or(usize::MAX);
        if seen.get_mut(key).is_none_or(|seen| std::mem::replace(seen, true)) {
            return Err((format!("node {node} to be a new row below {rows}"), format!("row {key}")));
        }
        let own = i16::from_le_bytes([head.bytes[0], head.bytes[1]]);
        if own != level(node) || own < 0 || own as u64 > highest {
            return Err((format!("node {node} at level {}", level(node)), format!("level {own}")));
        }
        for at in 0..=own {
            let room = if at == 0 { base } else { connectivity } as usize;
            let count = rest.u32()? as usize;
            let links = rest.take(room * 4)?;
            if count > room {
                return Err((format!("at most {room} links of node {node}"), format!("{count} links")));
            }
            for link in links[..count * 4].chunks_exact(4) {
                let to = u32::from_le_bytes([link[0], link[1], link[2], link[3]]);
                if to >= rows || level(to) < at {
                    return Err((format!("links of node {node} to nodes at level {at}"), format!("a link to {to}")));
                }
            }
        }
    }
    rest.end()
}

fn check_head(head: &[u8], rows: u32, dimension: u32, metric: Metric) -> Result<(), Fault> {
    if &head[..7] != b"usearch" || u16::from_le_bytes([head[7], head[8]]) != 2 {
        return Err(("a usearch 2 head".to_owned(), format!("{:02x?}", &head[..9])));
    }
    let kind = if metric == Metric::L2 { KIND_L2 } else { KIND_IP };
    let expected = [kind, KIND_BF16, KIND_U64, KIND_U32];
    if head[13..17] != expected {
        return Err((format!("kinds {expected:02x?}"), format!("{:02x?}", &head[13..17])));
    }
    let mut counts = Rest { bytes: &head[17..] };
    expect("nodes present", u64::from(rows), counts.u64()?)?;
    expect("nodes deleted", 0, counts.u64()?)?;
    expect("dimensions", u64::from(dimension), counts.u64()?)?;
    expect("vectors per key", 0, u64::from(counts.bytes[0]))
}

fn expect(what: &str, expected: u64, found: u64) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err((format!("{expected} {what}"), found.to_string())) }
}

struct Rest<'a> {
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, bytes) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| (format!("{length} more bytes"), format!("{} bytes", self.bytes.len())))?;
        self.bytes = bytes;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        let b = self.take(8)?;
        Ok(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    }

    fn end(&self) -> Result<(), Fault> {
        if self.bytes.is_empty() { Ok(()) } else { Err(("the end".to_owned(), format!("{} bytes", self.bytes.len()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes at level 0 that link to each other, of dimension 1.
    fn image() -> Vec<u8> {
        let mut image = Vec::new();
        image.extend([2u32, 2].map(u32::to_le_bytes).concat());
        image.extend([0; 4]);
        let mut head = [0u8; HEAD];
        head[..7].copy_from_slice(b"usearch");
        head[7] = 2;
        head[13..17].copy_from_slice(&[KIND_IP, KIND_BF16, KIND_U64, KIND_U32]);
        head[17] = 2;
        head[33] = 1;
        image.extend(head);
        image.extend([2u64, 2, 4, 0, 0].map(u64::to_le_bytes).concat());
        image.extend([0; 4]);
        for node in 0..2u32 {
            image.extend(u64::from(node).to_le_bytes());
            image.extend(0i16.to_le_bytes());
            image.extend([1, 1 - node, 0, 0, 0].map(u32::to_le_bytes).concat());
        }
        image
    }

    #[test]
    fn a_link_that_leads_outside_is_refused() {
        let valid = image();
        let (first_node, length) = (valid.len() - 60, valid.len());
        check(&valid, 2, 1, Metric::Cosine).unwrap();
        let faults: [(usize, &[u8]); 9] = [
            (first_node, &[1]),                                 // the other node's key
            (first_node, &[9]),                                 // a key beyond the rows
            (first_node + 8, &[1]),                             // a level of its own
            (first_node + 10, &[5]),                            // more links than there is room for
            (first_node + 14, &[2]),                            // a link beyond the nodes
            (first_node + 14, &[0xff, 0xff, 0xff, 0xff]),       // far beyond
            (first_node - 12, &[2]),                            // an entry beyond the nodes
            (first_node - 20, &[1]),                            // a level that the entry does not have
            (first_node - 36, &[0xff, 0xff, 0xff, 0xff, 0xff]), // connectivity that no memory holds
        ];
        for (at, bytes) in faults {
            let mut changed = valid.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(check(&changed, 2, 1, Metric::Cosine).is_err(), "{bytes:02x?} at {at} of {length}");
        }
        for cut in 0..length {
            assert!(check(&valid[..cut], 2, 1, Metric::Cosine).is_err(), "cut at {cut}");
        }
        assert!(check(&valid, 3, 1, Metric::Cosine).is_err());
        assert!(check(&valid, 2, 2, Metric::Cosine).is_err());
        assert!(check(&valid, 2, 1, Metric::L2).is_err());
    }
}
