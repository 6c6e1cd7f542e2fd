//! Directories that lie.

use super::*;

/// Two cells of three and of eighteen rows, of dimension 5.
struct Blocks {
    directory: Vec<u8>,
    centroids: Vec<u8>,
    codes: Vec<u8>,
}

const DIMENSION: usize = 5;
const ROWS: u32 = 21;

fn blocks(metric: Metric) -> Blocks {
    let mut codes = Vec::new();
    let mut entries = Vec::new();
    for rows in [3, 18] {
        let cell = vec![0x11; parts(rows, DIMENSION, metric).size as usize];
        let crc32c = crc32c::crc32c(&cell);
        entries.push(Entry {
            rows,
            share: 1.0,
            step: 0.5,
            centroid_step: 0.25,
            bias: -1.0,
            crc32c,
            loss: 0.5,
            spread: 9.0,
        });
        codes.extend(cell);
    }
    let directory = write_directory(&[0.0; DIMENSION], &entries);
    Blocks { directory, centroids: vec![7; centroid_bytes(2, DIMENSION)], codes }
}

fn read(blocks: &Blocks, metric: Metric) -> Result<Directory, Fault> {
    let length = blocks.codes.len() as u64;
    let directory = Directory::read(&blocks.directory, &blocks.centroids, length, metric, DIMENSION, ROWS)?;
    directory.check_codes(&blocks.codes)?;
    Ok(directory)
}

/// Makes the checksums of the directory true, as a liar would.
fn seal(blocks: &mut Blocks, metric: Metric) {
    let mut at = 0;
    for (cell, rows) in [3, 18].into_iter().enumerate() {
        let end = at + parts(rows, DIMENSION, metric).size as usize;
        let crc = crc32c::crc32c(&blocks.codes[at..end]);
        let entry = HEAD + 4 * DIMENSION + ENTRY * cell;
        blocks.directory[entry + 20..entry + 24].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

#[test]
fn what_is_written_is_read() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let blocks = blocks(metric);
        let directory = read(&blocks, metric).unwrap();
        assert_eq!((directory.cells(), directory.first_rows.as_slice()), (2, [0, 3, 21].as_slice()));
        let cell = directory.cell(1, directory.bytes_of(1, &blocks.codes), 2.0);
        assert_eq!((cell.rows, cell.first, cell.step, cell.base), (18, 3, 0.5, 2.0));
        assert_eq!((cell.codes.len(), cell.factors.len()), (18 * 4, 18 * 2));
        assert_eq!(cell.biases.len(), if metric == Metric::L2 { 72 } else { 0 });
        let empty = Directory::read(&write_directory(&[0.0; 3], &[]), &[], 0, metric, 3, 0).unwrap();
        assert_eq!(empty.cells(), 0);
    }
}

#[test]
fn no_cell_reaches_outside() {
    let metric = Metric::L2;
    let first = HEAD + 4 * DIMENSION;
    type Lie = fn(&mut Blocks);
    let lies: [(BlockKind, Lie); 10] = [
        (BlockKind::Cells, |blocks| blocks.directory.truncate(3)),
        (BlockKind::Cells, |blocks| blocks.directory.truncate(HEAD)),
        (BlockKind::Cells, |blocks| blocks.directory.push(0)),
        (BlockKind::Cells, |blocks| blocks.directory[0] = 3),
        (BlockKind::Cells, |blocks| blocks.directory[..4].fill(0xff)),
        (BlockKind::Cells, |blocks| blocks.directory[4] = 1),
        (BlockKind::CellCentroids, |blocks| blocks.centroids.truncate(64)),
        (BlockKind::CellCentroids, |blocks| blocks.centroids[70] = 128),
        (BlockKind::CellCodes, |blocks| blocks.codes.truncate(64)),
        (BlockKind::CellCodes, |blocks| blocks.codes.extend([0; 64])),
    ];
    for (number, (kind, lie)) in lies.into_iter().enumerate() {
        let mut blocks = blocks(metric);
        lie(&mut blocks);
        assert_eq!(read(&blocks, metric).unwrap_err().0, kind, "lie {number}");
    }
    // Row counts: none, one more, one less, so many that sums would overflow.
    for rows in [0u32, 4, 2, u32::MAX, u32::MAX - 17, 1 << 31] {
        let mut blocks = blocks(metric);
        blocks.directory[first..first + 4].copy_from_slice(&rows.to_le_bytes());
        assert_eq!(read(&blocks, metric).unwrap_err().0, BlockKind::Cells, "{rows} rows");
    }
    // Rows moved from one cell to the other: the sum is right, the length of the codes is not.
    let mut blocks = blocks(metric);
    blocks.directory[first..first + 4].copy_from_slice(&8u32.to_le_bytes());
    blocks.directory[first + ENTRY..first + ENTRY + 4].copy_from_slice(&13u32.to_le_bytes());
    assert_eq!(read(&blocks, metric).unwrap_err().0, BlockKind::CellCodes);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let metric = Metric::L2;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The centre, then the six numbers of the second cell.
        let second = HEAD + 4 * DIMENSION + ENTRY;
        for at in [HEAD, second + 4, second + 8, second + 12, second + 16, second + 24, second + 28] {
            let mut blocks = blocks(metric);
            blocks.directory[at..at + 4].copy_from_slice(&bad.to_le_bytes());
            assert_eq!(read(&blocks, metric).unwrap_err().0, BlockKind::Cells, "{bad} at {at}");
        }
        // The last bias of the first cell.
        let mut blocks = blocks(metric);
        let at = parts(3, DIMENSION, metric).biases_at as usize + 8;
        blocks.codes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        seal(&mut blocks, metric);
        let (kind, found) = read(&blocks, metric).unwrap_err();
        assert_eq!((kind, found.as_str()), (BlockKind::CellCodes, "cell 0: a bias that is not finite"));
    }
    for bad in [0x7c00u16, 0x7c01, 0xfc00, 0xffff] {
        let mut blocks = blocks(metric);
        let at = parts(3, DIMENSION, metric).codes as usize + 4;
        blocks.codes[at..at + 2].copy_from_slice(&bad.to_le_bytes());
        seal(&mut blocks, metric);
        let (kind, found) = read(&blocks, metric).unwrap_err();
        assert_eq!((kind, found.as_str()), (BlockKind::CellCodes, "cell 0: a factor that is not finite"));
    }
}

#[test]
fn lengths_below_zero_are_refused() {
    for at in [24, 28] {
        let mut blocks = blocks(Metric::Cosine);
        let at = HEAD + 4 * DIMENSION + at;
        blocks.directory[at..at + 4].copy_from_slice(&(-0.5f32).to_le_bytes());
        assert_eq!(read(&blocks, Metric::Cosine).unwrap_err().0, BlockKind::Cells, "at {at}");
    }
}

#[test]
fn a_changed_code_does_not_pass_for_the_cell_of_the_directory() {
    let mut blocks = blocks(Metric::Cosine);
    blocks.codes[0] ^= 1;
    let (kind, found) = read(&blocks, Metric::Cosine).unwrap_err();
    assert_eq!((kind, found.as_str()), (BlockKind::CellCodes, "cell 0: not the checksum of the directory"));
}

#[test]
fn a_centre_other_than_zero_is_not_for_cosine() {
    for (metric, fits) in [(Metric::Cosine, false), (Metric::L2, true), (Metric::InnerProduct, true)] {
        let mut blocks = blocks(metric);
        blocks.directory[HEAD..HEAD + 4].copy_from_slice(&1.0f32.to_le_bytes());
        assert_eq!(read(&blocks, metric).is_ok(), fits, "{metric:?}");
    }
}
