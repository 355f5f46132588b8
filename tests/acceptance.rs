//! Which manifests are accepted: tables of single cases, and simulated clients with publishers,
//! sources and clocks of all kinds.
//!
//! `SEED=n` replays one seed; `SEEDS=n` runs more of them than usual.

use std::sync::LazyLock;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::SigningKey;
use edge_net_core::dag::cid::{RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::time::UnixTime;
use edge_net_core::transfer::lookup::{Lookup, Reason, Step};
use edge_net_core::transfer::source::Failure;
use edge_net_core::trust::acceptance::{AHEAD, Acceptance, Accepted, NoManifest};
use edge_net_core::trust::newest::{is_newer, newest};
use edge_net_core::trust::signature::{Floor, PinnedKeys, Refusal, endorse, sign};
use semver::Version;
use serde_json::{Value, json};

/// 2026-11-24T00:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_795_478_400);
const HOUR: u64 = 3_600_000;
const MODEL: &str = "model";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn name(seed: u8) -> String {
    format!("key-{seed}")
}

fn public(seed: u8) -> String {
    Base64::encode_string(key(seed).verifying_key().as_bytes())
}

fn pinned(seeds: &[u8]) -> PinnedKeys {
    let pin = |keys: PinnedKeys, seed: &u8| keys.pin(name(*seed), &public(*seed)).unwrap();
    seeds.iter().fold(PinnedKeys::default(), pin)
}

/// A manifest that the key with this seed signed, `at` milliseconds after 1970.
fn manifest(version: &str, at: UnixTime, seed: u8, more: &Value) -> String {
    let mut document = json!({
        "id": MODEL, "name": "Model", "version": version, "type": "embedding",
        "timestamp": at.to_string(),
        "artifacts": { "model": {
            "filename": "model.onnx", "size": 10, "sha256": Digest::of(b"").to_hex(),
            "cid": cid_text(&Digest::of(b"").to_cid(RAW)),
        } },
    });
    let Value::Object(document) = &mut document else { unreachable!() };
    document.extend(more.as_object().cloned().unwrap_or_default());
    Value::Object(sign(document.clone(), &name(seed), &key(seed)).unwrap()).to_string()
}

/// The endorsements by which each key replaces the one before.
fn endorsements(seeds: &[u8]) -> Value {
    let link =
        |pair: &[u8]| endorse(&name(pair[1]), &public(pair[1]), &name(pair[0]), &key(pair[0]));
    json!({ "endorsements": seeds.windows(2).map(link).collect::<Vec<_>>() })
}

fn hours(hours: i64) -> UnixTime {
    let offset = hours.unsigned_abs() * HOUR;
    let now = NOW.as_millis();
    UnixTime::from_millis(if hours < 0 { now - offset } else { now + offset })
}

fn newest_of<'a>(keys: &'a PinnedKeys, floor: Option<&'a Floor>) -> Acceptance<'a> {
    Acceptance { keys, id: MODEL, version: None, floor, now: NOW }
}

#[test]
fn a_manifest_may_be_signed_a_day_ahead_of_the_clients_clock() {
    assert_eq!(AHEAD, Duration::from_hours(24));
    let keys = pinned(&[1]);
    let acceptance = newest_of(&keys, None);
    for (ahead, accepted) in [(-100_000, true), (0, true), (23, true), (24, true), (25, false)] {
        let offered = acceptance.offered(manifest("1.0.0", hours(ahead), 1, &json!({})));
        assert_eq!(offered.is_ok(), accepted, "{ahead} hours ahead");
    }
    // Versions by name too: this client would take it for good for ever.
    let text = || manifest("9.0.0", hours(24 * 365), 1, &json!({}));
    let version = Version::new(9, 0, 0);
    let named = Acceptance { version: Some(&version), ..acceptance };
    for refusal in [acceptance.offered(text()).unwrap_err(), named.offered(text()).unwrap_err()] {
        assert_eq!(
            refusal.to_string(),
            "the manifest was signed on 2027-11-24T00:00:00Z, which is in the future: here it is \
             2026-11-24T00:00:00Z. Either the clock of this device is behind and has to be \
             corrected, or the publisher's was ahead, and the manifest has to be signed again"
        );
    }
    // It locks nobody out.
    acceptance.offered(manifest("1.0.1", hours(1), 1, &json!({}))).unwrap();
}

#[test]
fn an_expired_manifest_neither_arrives_nor_holds_unless_its_version_is_named() {
    let keys = pinned(&[1]);
    let text = manifest("1.0.0", hours(-48), 1, &json!({ "expires": hours(-1).to_string() }));
    let acceptance = newest_of(&keys, None);
    let refusal = acceptance.offered(text.clone()).unwrap_err();
    assert!(refusal.to_string().ends_with("unless the clock of this device is ahead"), "{refusal}");
    let kept = acceptance.kept(text.clone()).unwrap();
    let unreachable = || Err(NoManifest::Unreachable("edge: no answer".into()));
    let settled = acceptance.settle(unreachable(), Some(kept.clone()));
    assert!(matches!(settled, Err(NoManifest::Refused(why)) if why.contains("expired on")));
    let version = Version::new(1, 0, 0);
    let named = Acceptance { version: Some(&version), ..acceptance };
    named.offered(text).unwrap();
    named.settle(unreachable(), Some(kept)).unwrap();
}

#[test]
fn a_kept_manifest_holds_unless_somebody_forges() {
    let keys = pinned(&[1]);
    let acceptance = newest_of(&keys, None);
    let kept = || acceptance.kept(manifest("1.0.0", hours(-2), 1, &json!({}))).unwrap();
    let why = || "edge: …".to_owned();
    for (error, holds) in [
        (NoManifest::Unreachable(why()), true),
        (NoManifest::NotFound(why()), true),
        (NoManifest::Older(why()), true),
        (NoManifest::Refused(why()), false),
    ] {
        let settled = acceptance.settle(Err(error.clone()), Some(kept()));
        let expected = if holds { Ok(Some(error.clone())) } else { Err(error.clone()) };
        assert_eq!(settled.map(|(_, why)| why), expected);
        assert_eq!(acceptance.settle::<Accepted>(Err(error.clone()), None).map(drop), Err(error));
    }
}

#[test]
fn a_replaced_key_stays_replaced() {
    let keys = pinned(&[1, 2]);
    let by_new = manifest("1.1.0", hours(-3), 2, &endorsements(&[1, 2]));
    let accepted = newest_of(&keys, None).offered(by_new).unwrap();
    let floor = newest_of(&keys, None).raise(&accepted.manifest).unwrap();
    assert_eq!(floor.replaced, [name(1)]);
    let acceptance = newest_of(&keys, Some(&floor));
    let by_old = manifest("2.0.0", hours(0), 1, &json!({}));
    let version = Version::new(2, 0, 0);
    let named = Acceptance { version: Some(&version), ..acceptance };
    for refusal in [
        acceptance.offered(by_old.clone()).unwrap_err(),
        acceptance.kept(by_old.clone()).unwrap_err(),
        named.offered(by_old.clone()).unwrap_err(),
        named.kept(by_old.clone()).unwrap_err(),
    ] {
        assert_eq!(refusal, Refusal::ReplacedKey(name(1)));
    }
    // Also after the publisher drops the endorsement, because all clients have the new key.
    let later = acceptance.offered(manifest("1.2.0", hours(-2), 2, &json!({}))).unwrap();
    let floor = acceptance.raise(&later.manifest).unwrap();
    assert_eq!((floor.version.to_string().as_str(), &*floor.replaced), ("1.2.0", &[name(1)][..]));
    assert!(newest_of(&keys, Some(&floor)).offered(by_old).is_err());
    let stored = Floor::from_json(&floor.to_json());
    assert_eq!(stored, Some(floor));
}

#[test]
fn a_named_version_does_not_raise_the_floor_but_tells_of_replaced_keys() {
    let keys = pinned(&[1, 2]);
    let newest = newest_of(&keys, None);
    let current = newest.offered(manifest("1.1.0", hours(-5), 1, &json!({}))).unwrap();
    let floor = newest.raise(&current.manifest).unwrap();
    // A hotfix of an older line, signed later.
    let version = Version::new(1, 0, 1);
    let named = Acceptance { version: Some(&version), floor: Some(&floor), ..newest };
    let hotfix = named.offered(manifest("1.0.1", hours(-1), 1, &json!({}))).unwrap();
    assert_eq!(named.raise(&hotfix.manifest), Some(floor.clone()));
    newest_of(&keys, Some(&floor)).offered(current.text).unwrap();
    // Without a floor.
    let named = Acceptance { floor: None, ..named };
    assert_eq!(named.raise(&hotfix.manifest), None);
    let rotated = named.offered(manifest("1.0.1", hours(-1), 2, &endorsements(&[1, 2]))).unwrap();
    let floor = named.raise(&rotated.manifest).unwrap();
    assert_eq!(floor, Floor { replaced: vec![name(1)], ..Floor::lowest() });
    let first = manifest("0.0.0-0", UnixTime::default(), 2, &json!({}));
    newest_of(&keys, Some(&floor)).offered(first).expect("nothing is behind the lowest floor");
}

#[test]
fn the_newest_is_the_highest_release_else_the_highest_prerelease() {
    let version = |text: &&str| text.parse::<Version>().unwrap();
    for (versions, expected) in [
        (&["1.0.0", "1.1.0", "1.0.1"][..], "1.1.0"),
        (&["1.0.0", "2.0.0-rc.1"], "1.0.0"),
        (&["2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-beta"], "2.0.0-rc.10"),
        (&["0.0.1", "9.9.9-9"], "0.0.1"),
        (&["1.9.0", "1.10.0"], "1.10.0"),
    ] {
        let versions: Vec<Version> = versions.iter().map(version).collect();
        assert_eq!(newest(&versions), Some(&version(&expected)), "{versions:?}");
    }
    assert_eq!(newest([]), None);
}

#[test]
fn a_first_release_is_not_behind_a_prerelease_of_a_higher_version() {
    let keys = pinned(&[1]);
    let floor_of = |version: &str, hour: i64| {
        let accepted =
            newest_of(&keys, None).offered(manifest(version, hours(hour), 1, &json!({})));
        newest_of(&keys, None).raise(&accepted.unwrap().manifest).unwrap()
    };
    let floor = floor_of("2.0.0-rc.1", -5);
    let offered = |floor: &Floor, version: &str, hour: i64| {
        newest_of(&keys, Some(floor)).offered(manifest(version, hours(hour), 1, &json!({}))).is_ok()
    };
    assert!(offered(&floor, "1.0.0", -4) && offered(&floor, "2.0.0-rc.2", -4));
    assert!(!offered(&floor, "1.0.0", -6) && !offered(&floor, "2.0.0-rc.0", -4));
    let floor = floor_of("1.0.0", -4);
    assert!(!offered(&floor, "2.0.0-rc.1", -5), "no way back to the prerelease");
    assert!(!offered(&floor, "1.0.0-rc.9", -3));
}

#[test]
fn sources_are_asked_in_order_and_again_if_that_may_help() {
    let run = |retries: u8, answers: &dyn Fn(usize, u32) -> Reason| {
        let mut lookup = Lookup::new(["edge", "gcs"].map(str::to_owned), retries);
        let (mut asked, mut rounds) = (Vec::new(), 0);
        while let Some(step) = lookup.step() {
            match step {
                Step::Ask(source) => {
                    asked.push(source);
                    lookup.failed(source, answers(source, rounds));
                }
                Step::Pause(pause) => {
                    assert_eq!(pause, Duration::from_millis(250 << rounds.min(4)));
                    rounds += 1;
                }
            }
        }
        (asked, lookup.reasons())
    };
    let status = |status: u16| Reason::Failed(Failure::Status(status));
    let (asked, reasons) = run(0, &|_, _| status(503));
    assert_eq!(asked, [0, 1]);
    assert!(reasons.is_unreachable() && !reasons.is_not_found());
    assert_eq!(reasons.to_string(), "edge: status 503; gcs: status 503");
    let (asked, reasons) = run(2, &|source, _| status(if source == 0 { 404 } else { 503 }));
    assert_eq!(asked, [0, 1, 1, 1]);
    assert!(matches!(reasons.no_manifest("demo"), NoManifest::Unreachable(_)));
    let (_, reasons) = run(3, &|_, _| status(404));
    assert!(reasons.is_not_found() && !reasons.is_unreachable());
    assert!(matches!(reasons.no_manifest("demo"), NoManifest::NotFound(_)));
    let older = || Reason::Refused(Refusal::Rollback { got: "1".into(), floor: "2".into() });
    let (_, reasons) = run(1, &|source, _| if source == 0 { status(500) } else { older() });
    assert!(matches!(reasons.no_manifest("demo"), NoManifest::Older(_)));
    let forged = || Reason::Refused(Refusal::BadSignature("a".into()));
    let (_, reasons) = run(1, &|source, _| if source == 0 { forged() } else { older() });
    assert!(matches!(reasons.no_manifest("demo"), NoManifest::Refused(_)));
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

/// A manifest that somebody offers.
struct Offer {
    text: String,
    version: Version,
    signed: UnixTime,
    expires: Option<UnixTime>,
    seed: u8,
    /// The keys that it says were replaced.
    replaced: Vec<String>,
    good: bool,
}

/// Manifests of all kinds, signed once: versions, times, keys with and without endorsements,
/// forged ones.
static POOL: LazyLock<Vec<Offer>> = LazyLock::new(|| {
    let versions = ["0.9.0", "1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1", "2.0.0"];
    // Hours from now; the last two by publishers whose clock is ahead.
    let times = [-2000, -300, -60, -20, -3, 0, 20, 30, 90_000];
    let lines: [&[u8]; 5] = [&[1], &[2], &[1, 2], &[1, 2, 3], &[9]];
    let mut pool = Vec::new();
    for (i, version) in versions.into_iter().enumerate() {
        for (j, time) in times.into_iter().enumerate() {
            for (k, line) in lines.into_iter().enumerate() {
                let expires = ((i + j + k) % 4 == 0).then(|| hours(time + 100));
                let mut more = endorsements(line);
                if let Some(expires) = expires {
                    more["expires"] = expires.to_string().into();
                }
                let seed = *line.last().unwrap();
                let text = manifest(version, hours(time), seed, &more);
                let spoilt = (i + 2 * j + 3 * k) % 11 == 0;
                pool.push(Offer {
                    text: if spoilt { text.replace("\"Model\"", "\"Modal\"") } else { text },
                    version: version.parse().unwrap(),
                    signed: hours(time),
                    expires,
                    seed,
                    replaced: line[..line.len() - 1].iter().map(|seed| name(*seed)).collect(),
                    good: !spoilt && seed != 9,
                });
            }
        }
    }
    pool
});

/// Counts over all seeds.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    held: u64,
    ahead: u64,
    expired: u64,
    replaced: u64,
    older: u64,
    prereleases: u64,
    forged: u64,
    skewed: u64,
}

/// One client over some days: it asks sources that offer anything.
fn simulate(seed: u64, tally: &mut Tally) {
    let random = &mut Random(seed);
    let keys = pinned([&[1][..], &[1, 2], &[2], &[1, 2, 3]][random.below(4)]);
    // Its clock may be wrong by minutes, hours or years, and may be corrected later.
    let mut skew = [0, 0, 0, 1, -1, 12, -12, 50, -50, 20_000, -20_000][random.below(11)];
    let mut floor: Option<Floor> = None;
    let mut kept: Option<Accepted> = None;
    let mut hour = -100;
    for _ in 0..4 {
        hour += i64::try_from(random.below(70)).unwrap();
        if random.below(10) == 0 {
            skew = 0;
        }
        tally.skewed += u64::from(skew != 0);
        let now = hours(hour + skew);
        let acceptance =
            Acceptance { keys: &keys, id: MODEL, version: None, floor: floor.as_ref(), now };
        let mut lookup = Lookup::new((0..2).map(|source| source.to_string()), 0);
        let mut found = None;
        while let (None, Some(Step::Ask(source))) = (&found, lookup.step()) {
            let offer = &POOL[random.below(POOL.len())];
            match random.below(8) {
                0 => lookup.failed(source, Reason::Failed(Failure::Status(404))),
                1 => lookup.failed(source, Reason::Failed(Failure::Unreachable("down".into()))),
                _ => match acceptance.offered(offer.text.clone()) {
                    Ok(accepted) => {
                        assert_acceptable(offer, &acceptance);
                        found = Some(accepted);
                    }
                    Err(refusal) => {
                        count(&refusal, tally);
                        lookup.failed(source, Reason::Refused(refusal));
                    }
                },
            }
        }
        let found = found.ok_or_else(|| lookup.reasons().no_manifest("demo"));
        let fresh = found.is_ok();
        let before = kept.take().filter(|kept| acceptance.keeps(&kept.manifest));
        let still = before.clone();
        match acceptance.settle(found, before) {
            Ok((accepted, why)) => {
                assert_eq!(why.is_none(), fresh);
                assert!(accepted.manifest.expires.is_none_or(|expires| expires > now));
                tally.accepted += u64::from(fresh);
                tally.held += u64::from(!fresh);
                tally.prereleases += u64::from(!accepted.manifest.version.pre.is_empty());
                let raised = acceptance.raise(&accepted.manifest).unwrap();
                assert_raised(floor.as_ref(), &raised);
                floor = Some(raised);
                kept = Some(accepted);
            }
            Err(_) => kept = still,
        }
    }
}

fn count(refusal: &Refusal, tally: &mut Tally) {
    match refusal {
        Refusal::Ahead { .. } => tally.ahead += 1,
        Refusal::Expired(_) => tally.expired += 1,
        Refusal::ReplacedKey(_) => tally.replaced += 1,
        Refusal::Rollback { .. } => tally.older += 1,
        Refusal::BadSignature(_) | Refusal::UnknownKey { .. } => tally.forged += 1,
        other => panic!("{other}"),
    }
}

fn assert_acceptable(offer: &Offer, acceptance: &Acceptance) {
    let now = acceptance.now;
    assert!(offer.good, "forged");
    assert!(offer.signed <= now + AHEAD, "of the future");
    assert!(offer.expires.is_none_or(|expires| expires > now), "expired");
    let Some(floor) = acceptance.floor else { return };
    assert!(!floor.replaced.contains(&name(offer.seed)), "by a replaced key");
    assert!(offer.signed >= floor.timestamp, "signed before");
    let lower = offer.version < floor.version;
    assert!(!lower || is_newer(&offer.version, &floor.version), "a lower version");
    assert!(!offer.replaced.contains(&name(offer.seed)));
}

/// Nothing is forgotten.
fn assert_raised(before: Option<&Floor>, after: &Floor) {
    let Some(before) = before else { return };
    assert!(after.timestamp >= before.timestamp);
    assert!(before.replaced.iter().all(|key| after.replaced.contains(key)));
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn clients_go_forward_only_whatever_sources_offer_and_clocks_say() {
    let mut tally = Tally::default();
    let seeds = match variable("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SEEDS").unwrap_or(2_000),
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| simulate(seed, &mut tally));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("replay it with: SEED={seed} cargo test --test acceptance");
            std::panic::resume_unwind(panic);
        }
    }
    let Tally { accepted, held, ahead, expired, replaced, older, prereleases, forged, skewed } =
        tally;
    for happened in [accepted, held, ahead, expired, replaced, older, prereleases, forged, skewed] {
        assert!(happened > 0 || variable("SEED").is_some(), "too tame: {tally:?}");
    }
}
