//! What the tasks found, each score beside what chance would have.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

/// What is measured. Each is a mean, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Classification: share of a class's patches that are told rightly; over classes.
    Accuracy,
    /// Classification: intersection over union of a class's patches; over classes.
    Iou,
    /// Identification: how often a patch of the same object is more similar than another one (the area under the ROC
    /// curve); over objects.
    Auc,
    /// Identification: share of an object's patches whose nearest neighbours in other frames are of the object; over
    /// objects.
    Identified,
    /// Retrieval: average precision; over queries.
    Retrieval,
    /// ... of objects of less than 4 patches.
    RetrievalTiny,
    /// ... of 4 to 16 patches.
    RetrievalSmall,
    /// ... of 16 to 64 patches.
    RetrievalMedium,
    /// ... of 64 patches or more.
    RetrievalLarge,
    /// Tracking: share of an object's patches whose nearest in the next frame is of the object; over objects.
    Followed,
    /// Tracking: region similarity of propagated masks; over objects.
    J,
    /// Tracking: boundary accuracy of propagated masks; over objects.
    F,
}

impl Measure {
    pub const ALL: [Measure; 12] = [
        Measure::Accuracy,
        Measure::Iou,
        Measure::Auc,
        Measure::Identified,
        Measure::Retrieval,
        Measure::RetrievalTiny,
        Measure::RetrievalSmall,
        Measure::RetrievalMedium,
        Measure::RetrievalLarge,
        Measure::Followed,
        Measure::J,
        Measure::F,
    ];

    /// As JSON names it.
    pub fn key(self) -> &'static str {
        match self {
            Measure::Accuracy => "accuracy",
            Measure::Iou => "iou",
            Measure::Auc => "auc",
            Measure::Identified => "identified",
            Measure::Retrieval => "map",
            Measure::RetrievalTiny => "map_below_4",
            Measure::RetrievalSmall => "map_4_to_16",
            Measure::RetrievalMedium => "map_16_to_64",
            Measure::RetrievalLarge => "map_from_64",
            Measure::Followed => "followed",
            Measure::J => "j",
            Measure::F => "f",
        }
    }
}

/// For people: short enough for the head of a column.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measure::Accuracy => "class accuracy",
            Measure::Iou => "mean IoU",
            Measure::Auc => "same object, AUC",
            Measure::Identified => "identified",
            Measure::Retrieval => "retrieval mAP",
            Measure::RetrievalTiny => "mAP, below 4 patches",
            Measure::RetrievalSmall => "mAP, 4 to 16",
            Measure::RetrievalMedium => "mAP, 16 to 64",
            Measure::RetrievalLarge => "mAP, 64 and more",
            Measure::Followed => "next patch",
            Measure::J => "J",
            Measure::F => "F",
        })
    }
}

/// A sum of scores, and of what chance would have on average, where that is known. Of an intersection over union it is
/// that of the average counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    sum: f64,
    chance: f64,
    count: u32,
    /// How many of them chance is not known of.
    unknown: u32,
}

/// One class of the classification, in patches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// `VIDEO/NUMBER`, or `background`.
    pub name: String,
    /// Patches of the class.
    pub patches: u64,
    /// Patches that were told to be of the class.
    pub told: u64,
    /// ... rightly.
    pub right: u64,
}

impl ClassCounts {
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.patches as f64
    }

    pub fn iou(&self) -> f64 {
        self.right as f64 / (self.patches + self.told - self.right) as f64
    }
}

/// All scores of all tasks.
///
/// As JSON: `{"scores": {"accuracy": 0.5, ..}, "chance": {"accuracy": 0.1, ..}, "classes": {"boat/1": [accuracy, IoU],
/// ..}}`, to four digits; what could not be measured, or whose chance is not known, is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    means: [Mean; Measure::ALL.len()],
    pub classes: Vec<ClassCounts>,
}

impl Scores {
    /// Takes in one score, with what chance would have had.
    pub fn push(&mut self, measure: Measure, score: f64, chance: Option<f64>) {
        let mean = &mut self.means[measure as usize];
        mean.sum += score;
        mean.chance += chance.unwrap_or(0.0);
        mean.count += 1;
        mean.unknown += u32::from(chance.is_none());
    }

    /// Takes in those of the other half of the videos.
    pub fn merge(&mut self, other: Scores) {
        for (mean, other) in self.means.iter_mut().zip(other.means) {
            mean.sum += other.sum;
            mean.chance += other.chance;
            mean.count += other.count;
            mean.unknown += other.unknown;
        }
        for class in other.classes {
            match self.classes.iter_mut().find(|known| known.name == class.name) {
                Some(known) => {
                    known.patches += class.patches;
                    known.told += class.told;
                    known.right += class.right;
                }
                None => self.classes.push(class),
            }
        }
    }

    /// `None` where nothing could be measured.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        let mean = self.means[measure as usize];
        (mean.count > 0).then(|| mean.sum / f64::from(mean.count))
    }

    /// `None` where it is not known.
    pub fn chance(&self, measure: Measure) -> Option<f64> {
        let mean = self.means[measure as usize];
        (mean.count > 0 && mean.unknown == 0).then(|| mean.chance / f64::from(mean.count))
    }

    /// J&F.
    pub fn jf(&self) -> Option<f64> {
        Some((self.get(Measure::J)? + self.get(Measure::F)?) / 2.0)
    }

    /// The mean of what the four tasks are judged by: accuracy, AUC, retrieval, next patch and J&F.
    pub fn overall(&self) -> Option<f64> {
        let judged = [Measure::Accuracy, Measure::Auc, Measure::Retrieval, Measure::Followed].map(|m| self.get(m));
        let sum = judged.into_iter().chain([self.jf()]).sum::<Option<f64>>()?;
        Some(sum / 5.0)
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut scores = serializer.serialize_struct("Scores", 3)?;
        let of = |value: &dyn Fn(Measure) -> Option<f64>| -> Vec<(&'static str, f64)> {
            Measure::ALL.into_iter().filter_map(|m| Some((m.key(), rounded(value(m)?)))).collect()
        };
        scores.serialize_field("scores", &Map(of(&|m| self.get(m))))?;
        scores.serialize_field("chance", &Map(of(&|m| self.chance(m))))?;
        let class = |class: &ClassCounts| (class.name.clone(), [rounded(class.accuracy()), rounded(class.iou())]);
        scores.serialize_field("classes", &Map(self.classes.iter().map(class).collect()))?;
        scores.end()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Pairs as a map that keeps their order.
struct Map<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_have_the_places_that_they_are_listed_at() {
        for (place, measure) in Measure::ALL.into_iter().enumerate() {
            assert_eq!(measure as usize, place);
        }
    }

    #[test]
    fn means_are_told_with_their_chance_where_it_is_known() {
        let (mut a, mut b) = (Scores::default(), Scores::default());
        a.push(Measure::Auc, 0.9, Some(0.5));
        a.push(Measure::J, 0.4, None);
        b.push(Measure::Auc, 0.6, Some(0.5));
        b.push(Measure::Auc, 0.0, Some(0.5));
        b.push(Measure::F, 0.2, None);
        a.classes.push(ClassCounts { name: "background".into(), patches: 10, told: 9, right: 6 });
        b.classes.push(ClassCounts { name: "background".into(), patches: 10, told: 6, right: 4 });
        b.classes.push(ClassCounts { name: "boat/1".into(), patches: 3, told: 3, right: 2 });
        a.merge(b);
        assert_eq!((a.get(Measure::Auc), a.chance(Measure::Auc)), (Some(0.5), Some(0.5)));
        assert_eq!((a.get(Measure::J), a.chance(Measure::J)), (Some(0.4), None));
        assert_eq!((a.get(Measure::Iou), a.chance(Measure::Iou)), (None, None));
        assert!((a.jf().unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(a.overall(), None, "the other tasks are missing");
        let json = serde_json::to_string(&a).unwrap();
        let scores = r#"{"scores":{"auc":0.5,"j":0.4,"f":0.2},"chance":{"auc":0.5},"#;
        let classes = r#""classes":{"background":[0.5,0.4],"boat/1":[0.6667,0.5]}}"#;
        assert_eq!(json, format!("{scores}{classes}"));
    }
}
