/// A template without the tags `{% generation %}` and `{% endgeneration %}`, with which training
/// finds the assistant's words. They become a condition that holds, so that the white space around
/// them is treated in the same way.
pub(super) fn without_generation(source: &str) -> String {
    let mut whole = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        whole.push_str(before);
        let Some(end) = tag.find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let name = tag[2..end - 2].trim_matches(['-', '+']).trim();
        match name {
            "generation" => whole.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => whole.push_str(&tag.replace("endgeneration", "endif")),
            _ => {
                // A tag may have "%}" in a text: only its beginning is passed.
                whole.push_str("{%");
                rest = &rest[start + 2..];
                continue;
            }
        }
        rest = after;
    }
    whole.push_str(rest);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        let source = "{%- generation -%}a{% endgeneration %}{% set x = '{%generation%}' %}{%";
        let changed = "{%- if true -%}a{% endif %}{% set x = '{%if true%}' %}{%";
        assert_eq!(without_generation(source), changed);
        assert_eq!(without_generation("{% set generation = 1 %}"), "{% set generation = 1 %}");
    }
}
