//! Which series a page shows: those of models, deployments, replicas and accounts that the config in force has.
//!
//! The recorder keeps what it has counted as long as the process lives. What was taken out of the config is left out of the
//! page, or its last numbers would stand there for ever; if it comes back, its counters go on from where they were.

/// Whether the config in force has a name.
pub trait InForce {
    /// A model's own name.
    fn model(&self, name: &str) -> bool;
    /// A deployment's name.
    fn deployment(&self, name: &str) -> bool;
    /// A replica's number, in a deployment that is in force.
    fn replica(&self, deployment: &str, replica: &str) -> bool;
    /// An account's id.
    fn account(&self, id: &str) -> bool;
}

/// The model of requests for none that the config has.
const OTHER: &str = "other";

/// Leaves out of a page in the text format what is not in force. O(page).
#[must_use]
pub fn shown(page: &str, known: &impl InForce) -> String {
    let mut out = String::with_capacity(page.len());
    // Help and type of a metric, until one of its series is shown.
    let mut head = "";
    let mut at = 0;
    let mut head_from = 0;
    for line in page.split_inclusive('\n') {
        let from = at;
        at += line.len();
        if line.starts_with('#') {
            head_from = if head.is_empty() { from } else { head_from };
            head = page.get(head_from..at).unwrap_or_default();
        } else if line.trim().is_empty() {
            head = "";
            if !out.is_empty() && !out.ends_with("\n\n") {
                out.push_str(line);
            }
        } else if is_in_force(line, known) {
            out.push_str(std::mem::take(&mut head));
            out.push_str(line);
        }
    }
    out
}

fn is_in_force(series: &str, known: &impl InForce) -> bool {
    let has = |name, is_known: &dyn Fn(&str) -> bool| label(series, name).is_none_or(is_known);
    has("model", &|model| model == OTHER || known.model(model))
        && has("account", &|account| known.account(account))
        && has("deployment", &|deployment| {
            known.deployment(deployment) && has("replica", &|replica| known.replica(deployment, replica))
        })
}

/// The value of a label. Names in a config have no character that would be escaped.
fn label<'s>(series: &'s str, name: &str) -> Option<&'s str> {
    let (_, labels) = series.split_once('{')?;
    let mut rest = labels;
    loop {
        let (key, behind) = rest.split_once("=\"")?;
        let (value, behind) = behind.split_once('"')?;
        if key.trim_start_matches(',') == name {
            return Some(value);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl InForce for Known {
        fn model(&self, name: &str) -> bool {
            name == "m"
        }

        fn deployment(&self, name: &str) -> bool {
            name == "d"
        }

        fn replica(&self, _: &str, replica: &str) -> bool {
            replica == "0"
        }

        fn account(&self, id: &str) -> bool {
            id == "acme"
        }
    }

    #[test]
    fn case_o14_series_of_what_is_in_no_config_are_left_out() {
        let page = "# HELP a_total A.\n# TYPE a_total counter\na_total{model=\"m\",tier=\"x\"} 1\na_total{model=\"gone\"} 2\na_total{model=\"other\"} 3\n\n\
                    # HELP b B.\n# TYPE b gauge\nb{deployment=\"gone\",replica=\"0\"} 1\n\n\
                    # TYPE c gauge\nc{deployment=\"d\",replica=\"0\"} 1\nc{deployment=\"d\",replica=\"9\"} 1\nc{reason=\"x\"} 1\nc 5\n\n\
                    # TYPE e gauge\ne{account=\"acme\",model=\"m\"} 1\ne{account=\"left\",model=\"m\"} 1\n";

        let shown = shown(page, &Known);

        assert_eq!(
            shown,
            "# HELP a_total A.\n# TYPE a_total counter\na_total{model=\"m\",tier=\"x\"} 1\na_total{model=\"other\"} 3\n\n\
             # TYPE c gauge\nc{deployment=\"d\",replica=\"0\"} 1\nc{reason=\"x\"} 1\nc 5\n\n\
             # TYPE e gauge\ne{account=\"acme\",model=\"m\"} 1\n"
        );
    }
}
