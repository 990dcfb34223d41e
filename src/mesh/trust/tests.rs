//! Whose signatures are believed, when, and what is said of the others.

use uuid::Uuid;

use super::*;
use crate::event::Position;

const DAY: i64 = 86_400_000_000_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_entropy([number; 32])
}

fn name() -> ExportName {
    ExportName { owner: "flights".into(), export: "departures".into(), version: 1 }
}

fn place() -> Place {
    Place { log_id: Uuid::from_u128(9), epoch: 1, seq: 4, position: Position::new(7), chain: [3; 32] }
}

fn trust(text: &str) -> Trust {
    Trust::parse(text, "trust.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn check_file(text: &str, expected: &[&str]) {
    let error = Trust::parse(text, "t").expect_err(text);
    let found: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (place, message) = expected.split_once(' ').unwrap();
            found.starts_with(&format!("t:{place}: ")) && found.contains(message)
        });
    assert!(fits, "{text}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn a_signature_is_of_one_place_under_one_name() {
    let (signing, mut trust) = (key(1), Trust::default());
    trust.trust("flights", signing.public()).unwrap();
    let signature = signing.sign(&name(), &[5; 32], &place());
    let verify = |name: &ExportName, definition: &[u8; 32], place: &Place, signature: &Signature| {
        trust.verify(name, definition, place, signature, 0)
    };
    assert_eq!(verify(&name(), &[5; 32], &place(), &signature), Ok(()));
    assert!(trust.verify_head(&signing.head_mark(&name(), &[5; 32], &place()), 0).is_ok());
    let bad = Err(TrustError::BadSignature { owner: "flights".into(), key: signing.public().into() });
    for other in [
        Place { log_id: Uuid::from_u128(8), ..place() },
        Place { epoch: 2, ..place() },
        Place { seq: 5, ..place() },
        Place { position: Position::new(8), ..place() },
        Place { chain: [4; 32], ..place() },
    ] {
        assert_eq!(verify(&name(), &[5; 32], &other, &signature), bad);
    }
    assert_eq!(verify(&name(), &[6; 32], &place(), &signature), bad);
    assert_eq!(verify(&ExportName { version: 2, ..name() }, &[5; 32], &place(), &signature), bad);
    assert_eq!(
        verify(&ExportName { export: "arrivals".into(), ..name() }, &[5; 32], &place(), &signature),
        bad
    );
    for at in 0..64 {
        let mut damaged = signature.clone();
        damaged.bytes[at] ^= 1;
        assert_eq!(verify(&name(), &[5; 32], &place(), &damaged), bad, "byte {at}");
    }
    let short = Signature { bytes: vec![1; 63], ..signature };
    assert_eq!(verify(&name(), &[5; 32], &place(), &short), bad);
}

#[test]
fn owners_keys_and_times_are_told_apart() {
    let (old, new, foreign) = (key(1), key(2), key(3));
    let text = format!(
        "flights:\n- key: {}\n  not_after: 1970-01-03T00:00:00Z\n- {{key: {}, not_before: 1970-01-02T00:00:00Z}}\n\
         weather: [{{key: {}}}]\n",
        old.public(),
        new.public(),
        foreign.public()
    );
    let trust = trust(&text);
    let verify = |key: &SigningKey, owner: &str, now: i64| {
        let name = ExportName { owner: owner.into(), ..name() };
        let result = trust.verify(&name, &[0; 32], &place(), &key.sign(&name, &[0; 32], &place()), now);
        result.map_err(|error| error.to_string())
    };
    assert_eq!(verify(&old, "flights", DAY), Ok(()));
    assert_eq!(verify(&new, "flights", DAY), Ok(()), "both are in force while keys change");
    assert!(
        verify(&old, "flights", 2 * DAY)
            .unwrap_err()
            .contains("which was in force until 1970-01-03T00:00:00Z")
    );
    assert!(
        verify(&new, "flights", DAY - 1)
            .unwrap_err()
            .contains("which is in force from 1970-01-02T00:00:00Z on")
    );
    assert_eq!(verify(&new, "flights", 9 * DAY), Ok(()));
    let unknown = verify(&foreign, "flights", DAY).unwrap_err();
    assert!(unknown.contains("none of the 2 that the trust file has of the node flights"), "{unknown}");
    let nobody = verify(&old, "gates", DAY).unwrap_err();
    assert_eq!(nobody, "the trust file has no key of the node gates; it has keys of flights, weather");
}

#[test]
fn a_key_may_be_listed_for_several_times() {
    let key = key(1);
    let text = format!(
        "flights: [{{key: {0}, not_after: 1970-01-02T00:00:00Z}}, {{key: {0}, not_before: 1970-01-05T00:00:00Z}}]",
        key.public()
    );
    let trust = trust(&text);
    let signature = key.sign(&name(), &[0; 32], &place());
    let verify = |now| trust.verify(&name(), &[0; 32], &place(), &signature, now);
    assert!(verify(0).is_ok() && verify(2 * DAY).is_err() && verify(4 * DAY).is_ok());
}

#[test]
fn all_that_is_wrong_with_a_file_is_said_at_once() {
    let good = key(1);
    let public = good.public();
    check_file("[]", &["1:1 expected names of nodes"]);
    check_file(
        &format!(
            "Flights: [{{key: {public}}}]\nweather: []\ngates:\n- {{kye: {public}}}\n- {{key: {public}, not_before: monday}}\n\
             - {{key: {public}, not_before: 1970-01-02T00:00:00Z, not_after: 1970-01-02T00:00:00Z}}\n- key: {}\n- key: V123\n\
             - key: {}\n",
            good.seed(),
            nkeys::KeyPair::new_user().public_key()
        ),
        &[
            "1:1 expected a name of a-z 0-9 -",
            "2:10 expected a list of 1 to 64 keys",
            "4:3 missing key `key`",
            "4:4 unknown key `kye` in a trusted key: expected one of key, not_before, not_after",
            "5:79 expected a time of the years 1678 to 2261",
            "6:3 expected `not_after` to be later than `not_before`",
            "7:8 found what may be a seed",
            "8:8 expected the public key of a service",
            "9:8 found one of the kind User",
        ],
    );
    let shown = Trust::parse(&format!("a: [{{key: {}}}]", good.seed()), "t").unwrap_err().to_string();
    assert!(!shown.contains(&good.seed()), "a seed in the wrong file is not shown");
}

#[test]
fn a_seed_is_read_back_and_never_shown() {
    let key = key(1);
    let again = SigningKey::from_seed(&format!("# the key of flights\n\n {}\r\n", key.seed())).unwrap();
    assert_eq!(again.public(), key.public());
    assert!(key.public().starts_with('V') && key.seed().starts_with("SV"));
    assert!(!format!("{key:?}").contains(&key.seed()));
    let broken = key.seed().replace('A', "B");
    for text in [
        "",
        "SV",
        &broken,
        key.public(),
        &format!("{0}\n{0}", key.seed()),
        &nkeys::KeyPair::new_user().seed().unwrap(),
    ] {
        let error = SigningKey::from_seed(text).unwrap_err().to_string();
        assert!(
            error.starts_with("expected one line with the seed of a key of a service (SV...)"),
            "{error}"
        );
        assert!(text.len() < 10 || !error.contains(text), "{error}");
    }
    assert_ne!(SigningKey::generate().seed(), SigningKey::generate().seed());
}

#[test]
fn a_key_file_is_for_its_owner() {
    for mode in [0o100_600, 0o400, 0o440, 0o640] {
        assert_eq!(check_key_file_mode("k", mode), Ok(()), "{mode:o}");
    }
    for mode in [0o644, 0o604, 0o660, 0o777, 0o602] {
        let error = check_key_file_mode("k.nk", mode).unwrap_err().to_string();
        assert!(error.contains(&format!("found mode {mode:04o}; run: chmod 600 k.nk")), "{error}");
    }
}
