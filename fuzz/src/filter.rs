//! Queries of the registry's list of models.

use edge_net_core::http::registry::{Filter, Limit, Summary};
use edge_net_core::trust::manifest::is_id;

/// Input: a query without percent-encoding, a line feed, and a JSON array of models.
///
/// - A page has 1 to 100 models at most, and all of them are wanted.
/// - The pages, one after the other by their cursors, have each wanted model once, in order.
///
/// # Panics
/// When a property does not hold.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, models) = text.split_once('\n').unwrap_or((text, "[]"));
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let filter = match Filter::parse(pairs) {
        Ok(filter) => filter,
        Err(bad) => return assert!(!bad.to_string().is_empty()),
    };
    assert!((1..=Limit::MOST).contains(&filter.limit.get()));
    let Ok(mut models) = serde_json::from_str::<Vec<Summary>>(models) else { return };
    models.retain(|model| is_id(&model.id));
    models.sort_by(|one, other| one.id.cmp(&other.id));
    models.dedup_by(|one, other| one.id == other.id);
    assert_pages(&filter, &models);
}

fn assert_pages(filter: &Filter, models: &[Summary]) {
    let all: Vec<&Summary> = models.iter().filter(|model| filter.admits(model)).collect();
    for model in &all {
        assert!(filter.kind.as_ref().is_none_or(|kind| *kind == model.kind));
        assert!(filter.after.as_ref().is_none_or(|after| model.id > *after));
    }
    let most = usize::from(filter.limit.get());
    let mut page_filter = filter.clone();
    let mut seen = Vec::new();
    loop {
        let wanted = models.iter().filter(|model| page_filter.admits(model));
        let (page, next) = page_filter.page(wanted.take(most + 1).cloned().collect());
        assert!(page.len() <= most);
        seen.extend(page);
        let Some(next) = next else { break };
        assert!(page_filter.after.as_ref().is_none_or(|after| next > *after), "pages go on");
        page_filter.after = Some(next);
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), all);
}
