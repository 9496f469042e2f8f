//! The tree of a file -> what is wrong with it on every node: names, things given twice, keys, counts. Decides nothing that depends
//! on the node.

use alloc::collections::BTreeMap;

use super::diagnostic::Problems;
use super::limits::{MAX_NAME_LEN, MAX_NODES, MAX_RESOURCES};
use super::params::{Name, Place};
use super::problem::Problem;
use super::syntax::Section;

/// Checks the whole file.
pub(super) fn check(file: &Section, problems: &mut Problems) {
    check_nodes(file, Place::TopNode, problems);
    check_keys(file, problems);
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for resource in file.sections(Place::Resource) {
        check_name(resource, problems);
        check_nodes(resource, Place::ResourceNode, problems);
        check_keys(resource, problems);
        if let Some(line) = note(&mut lines, resource, problems) {
            let problem = Problem::ResourceTwice { name: &resource.name, line };
            problems.report(resource.name_span.clone(), &problem);
        } else if lines.len() == MAX_RESOURCES + 1 {
            problems.report(resource.name_span.clone(), &Problem::TooManyResources);
        }
    }
    if lines.is_empty() && !file.damaged {
        problems.report(0..0, &Problem::NoResources);
    }
}

/// Remembers the name of a section; the line of an earlier one of the same name.
fn note<'a>(lines: &mut BTreeMap<&'a str, usize>, section: &'a Section, problems: &Problems) -> Option<usize> {
    if let Some(line) = lines.get(section.name.as_str()) {
        // A section without a name was reported by the parser.
        return Some(*line).filter(|_| !section.name.is_empty());
    }
    lines.insert(&section.name, problems.line(section.keyword.start));
    None
}

fn check_name(section: &Section, problems: &mut Problems) {
    if section.name.len() > MAX_NAME_LEN {
        problems.report(section.name_span.clone(), &Problem::LongName);
    } else if section.place == Place::Resource && section.name == "all" {
        problems.report(section.name_span.clone(), &Problem::NameAll);
    }
}

fn check_nodes(around: &Section, place: Place, problems: &mut Problems) {
    let mut lines = BTreeMap::new();
    for section in around.sections(place) {
        check_name(section, problems);
        if let Some(line) = note(&mut lines, section, problems) {
            let problem = Problem::NodeTwice { name: &section.name, line };
            problems.report(section.name_span.clone(), &problem);
        } else if lines.len() == MAX_NODES + 1 {
            problems.report(section.name_span.clone(), &Problem::TooManyNodes);
        }
    }
}

fn check_keys(around: &Section, problems: &mut Problems) {
    for key in around.keys.iter().filter(|key| !key.damaged) {
        for (name, word) in [(Name::Algorithm, "algorithm"), (Name::Secret, "secret")] {
            if key.setting(name).is_none() {
                problems.report(key.keyword.clone(), &Problem::IncompleteKey(word));
            }
        }
    }
    for again in around.keys.iter().skip(1) {
        let line = around.keys.first().map_or(0, |first| problems.line(first.keyword.start));
        problems.report(again.keyword.clone(), &Problem::Twice { word: "key", list: false, line });
    }
}
