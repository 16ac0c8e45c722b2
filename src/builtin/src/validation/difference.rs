//! Differences between two texts, as unified diffs: the same blocks, in the same words, as Python's `difflib` finds,
//! which kube-apiserver's messages are made with.

use std::collections::HashMap;

const CONTEXT: usize = 3;
/// From this many lines on, lines that make up more than a hundredth of the text do not start a match.
const POPULAR_FROM: usize = 200;

/// The difference of two values of one shown type, without file names.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new) = (lines(old), lines(new));
    let mut out = String::new();
    for group in grouped(opcodes(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(first.old.0, last.old.1),
            range(first.new.0, last.new.1)
        ));
        for block in &group {
            if block.same {
                write(&mut out, ' ', &old[block.old.0..block.old.1]);
            } else {
                write(&mut out, '-', &old[block.old.0..block.old.1]);
                write(&mut out, '+', &new[block.new.0..block.new.1]);
            }
        }
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    same: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// Every line ends in a line break, the last one too.
fn lines(text: &str) -> Vec<&str> {
    text.split('\n').collect()
}

fn write(out: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        out.push(mark);
        out.push_str(line);
        out.push('\n');
    }
}

fn range(start: usize, stop: usize) -> String {
    match stop - start {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

// === blocks with their context ===

fn grouped(mut blocks: Vec<Block>) -> Vec<Vec<Block>> {
    if blocks.iter().all(|block| block.same) {
        return Vec::new();
    }
    if let Some(first) = blocks.first_mut().filter(|block| block.same) {
        first.old.0 = first.old.0.max(first.old.1.saturating_sub(CONTEXT));
        first.new.0 = first.new.0.max(first.new.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = blocks.last_mut().filter(|block| block.same) {
        last.old.1 = last.old.1.min(last.old.0 + CONTEXT);
        last.new.1 = last.new.1.min(last.new.0 + CONTEXT);
    }
    let mut groups = Vec::new();
    let mut group = Vec::new();
    for mut block in blocks {
        if block.same && block.old.1 - block.old.0 > 2 * CONTEXT {
            group.push(Block {
                same: true,
                old: (block.old.0, block.old.0 + CONTEXT),
                new: (block.new.0, block.new.0 + CONTEXT),
            });
            groups.push(std::mem::take(&mut group));
            block.old.0 = block.old.1 - CONTEXT;
            block.new.0 = block.new.1 - CONTEXT;
        }
        group.push(block);
    }
    if !group.iter().all(|block| block.same) {
        groups.push(group);
    }
    groups
}

fn opcodes(old: &[&str], new: &[&str]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut matches = matching(old, new);
    matches.push((old.len(), new.len(), 0));
    for (a, b, length) in matches {
        if i < a || j < b {
            blocks.push(Block {
                same: false,
                old: (i, a),
                new: (j, b),
            });
        }
        (i, j) = (a + length, b + length);
        if length > 0 {
            blocks.push(Block {
                same: true,
                old: (a, i),
                new: (b, j),
            });
        }
    }
    blocks
}

// === longest matches ===

/// Where the texts agree: start in each and length, in order, neighbours joined.
fn matching(old: &[&str], new: &[&str]) -> Vec<(usize, usize, usize)> {
    let index = Index::of(new);
    let mut queue = vec![(0, old.len(), 0, new.len())];
    let mut found = Vec::new();
    while let Some((old_from, old_to, new_from, new_to)) = queue.pop() {
        let (i, j, length) = index.longest(old, new, (old_from, old_to), (new_from, new_to));
        if length == 0 {
            continue;
        }
        found.push((i, j, length));
        if old_from < i && new_from < j {
            queue.push((old_from, i, new_from, j));
        }
        if i + length < old_to && j + length < new_to {
            queue.push((i + length, old_to, j + length, new_to));
        }
    }
    found.sort_unstable();
    let mut joined: Vec<(usize, usize, usize)> = Vec::with_capacity(found.len());
    for (i, j, length) in found {
        match joined.last_mut() {
            Some((a, b, before)) if *a + *before == i && *b + *before == j => *before += length,
            _ => joined.push((i, j, length)),
        }
    }
    joined
}

/// Where each line stands in the new text, without lines too frequent to tell anything.
struct Index<'a> {
    places: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn of(new: &[&'a str]) -> Index<'a> {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (j, line) in new.iter().enumerate() {
            places.entry(line).or_default().push(j);
        }
        if new.len() >= POPULAR_FROM {
            let most = new.len() / 100 + 1;
            places.retain(|_, places| places.len() <= most);
        }
        Index { places }
    }

    /// The first longest match within the two ranges, extended over lines the index leaves out.
    fn longest(
        &self,
        old: &[&str],
        new: &[&str],
        (old_from, old_to): (usize, usize),
        (new_from, new_to): (usize, usize),
    ) -> (usize, usize, usize) {
        let (mut i, mut j, mut length) = (old_from, new_from, 0);
        let mut lengths: HashMap<usize, usize> = HashMap::new();
        for (a, line) in old.iter().enumerate().take(old_to).skip(old_from) {
            let mut next = HashMap::new();
            let places = self.places.get(line).map_or(&[][..], Vec::as_slice);
            for &b in places
                .iter()
                .skip_while(|b| **b < new_from)
                .take_while(|b| **b < new_to)
            {
                let run = 1 + b
                    .checked_sub(1)
                    .and_then(|before| lengths.get(&before))
                    .copied()
                    .unwrap_or(0);
                next.insert(b, run);
                if run > length {
                    (i, j, length) = (a + 1 - run, b + 1 - run, run);
                }
            }
            lengths = next;
        }
        while i > old_from && j > new_from && old[i - 1] == new[j - 1] {
            (i, j, length) = (i - 1, j - 1, length + 1);
        }
        while i + length < old_to && j + length < new_to && old[i + length] == new[j + length] {
            length += 1;
        }
        (i, j, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_with_three_around_it() {
        let old = "{\n 1,\n 2,\n 3,\n 4,\n 5,\n 6,\n 7\n}";
        let new = "{\n 1,\n 2,\n 3,\n x,\n 5,\n 6,\n 7\n}";
        assert_eq!(
            unified(old, new),
            "@@ -2,7 +2,7 @@\n  1,\n  2,\n  3,\n- 4,\n+ x,\n  5,\n  6,\n  7\n"
        );
    }

    #[test]
    fn distant_changes_stand_in_groups_of_their_own() {
        let text = |a: &str, b: &str| {
            let middle: Vec<String> = (0..12).map(|i| i.to_string()).collect();
            format!("{a}\n{}\n{b}", middle.join("\n"))
        };
        assert_eq!(
            unified(&text("a", "z"), &text("b", "y")),
            "@@ -1,4 +1,4 @@\n-a\n+b\n 0\n 1\n 2\n@@ -11,4 +11,4 @@\n 9\n 10\n 11\n-z\n+y\n"
        );
    }

    #[test]
    fn equal_texts_have_none() {
        assert_eq!(unified("a\nb", "a\nb"), "");
        assert_eq!(unified("a", ""), "@@ -1 +1 @@\n-a\n+\n");
    }
}
