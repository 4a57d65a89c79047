//! Logins and permissions as RabbitMQ grants them, and that they survive in rows.

use std::collections::BTreeMap;

use super::*;

/// An `Auth` over rows that are kept as the store would keep them.
struct Broker {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    config: Config,
    auth: Auth,
}

impl Broker {
    fn first_start(config: Config) -> Self {
        let auth = Auth::recover(std::iter::empty(), &config).unwrap();
        let mut broker = Self {
            rows: BTreeMap::new(),
            config,
            auth,
        };
        assert!(broker.auth.is_empty());
        let config = broker.config.clone();
        broker.change(|auth, push| auth.add_default_user(push, &config).unwrap());
        broker
    }

    fn change<R>(&mut self, change: impl FnOnce(&Auth, &mut dyn FnMut(Op)) -> R) -> R {
        let rows = &mut self.rows;
        change(&self.auth, &mut |op| match op {
            Op::PutState { key, value } => drop(rows.insert(key, value)),
            Op::DeleteState { key } => drop(rows.remove(&key)),
            other => panic!("not a row: {other:?}"),
        })
    }

    fn restarted(mut self) -> Self {
        let rows = self.rows.iter().map(|(key, value)| (&key[..], &value[..]));
        self.auth = Auth::recover(rows, &self.config).unwrap();
        self
    }

    fn plain(&self, name: &str, password: &str) -> Result<User, LoginError> {
        let response = format!("\0{name}\0{password}");
        self.auth
            .authenticate(Mechanism::Plain, response.as_bytes(), true)
    }

    fn with_user(mut self, name: &str, [configure, write, read]: [&str; 3]) -> (Self, User) {
        let password = PasswordHash::new("pw").unwrap();
        let permissions = Permissions {
            configure: configure.into(),
            write: write.into(),
            read: read.into(),
        };
        self.change(|auth, push| {
            auth.add_user(push, name, password, &["monitoring"])
                .unwrap();
            auth.set_permissions(push, name, "/", &permissions).unwrap();
        });
        let user = self.plain(name, "pw").unwrap();
        (self, user)
    }
}

fn broker() -> Broker {
    Broker::first_start(Config::default())
}

#[test]
fn the_first_start_creates_the_default_user() {
    let broker = broker();
    let guest = broker.plain("guest", "guest").unwrap();
    assert_eq!(&**guest.name(), "guest");
    assert!(guest.has_tag("administrator"));
    assert!(!guest.has_tag("impersonator"));
    assert_eq!(broker.auth.check_vhost(&guest, "/"), Ok(()));
    let queue = Resource::Queue("q");
    assert_eq!(
        broker.auth.check(&guest, "/", Permission::Configure, queue),
        Ok(())
    );
}

#[test]
fn wrong_credentials_are_refused_alike() {
    let broker = broker();
    for (name, password) in [("guest", "wrong"), ("nobody", "guest"), ("Guest", "guest")] {
        let user = name.to_owned();
        let expected = Err(LoginError::InvalidCredentials { user });
        assert_eq!(broker.plain(name, password), expected);
    }
}

#[test]
fn a_blank_password_is_refused_even_if_it_is_the_right_one() {
    let config = Config {
        default_pass: String::new(),
        ..Config::default()
    };
    let broker = Broker::first_start(config);
    let user = "guest".to_owned();
    assert_eq!(
        broker.plain("guest", ""),
        Err(LoginError::BlankPassword { user })
    );
}

#[test]
fn malformed_responses_are_told_apart() {
    let auth = broker().auth;
    for mechanism in [Mechanism::Plain, Mechanism::AmqPlain] {
        let login = auth.authenticate(mechanism, b"guest", true);
        assert_eq!(login, Err(LoginError::Malformed));
    }
}

#[test]
fn amqplain_logs_in() {
    let auth = broker().auth;
    let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    let user = auth
        .authenticate(Mechanism::AmqPlain, response, true)
        .unwrap();
    assert_eq!(&**user.name(), "guest");
}

#[test]
fn loopback_users_come_from_loopback_only() {
    let (broker, _) = broker().with_user("app", [".*"; 3]);
    let login = |response| broker.auth.authenticate(Mechanism::Plain, response, false);
    let refused = login(b"\0guest\0guest").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "user 'guest' can only connect via localhost"
    );
    assert_eq!(&**login(b"\0app\0pw").unwrap().name(), "app");
    // A wrong password is not answered with where the right one would be taken from.
    let refused = login(b"\0guest\0wrong").unwrap_err();
    assert_eq!(refused.to_string(), "user 'guest' - invalid credentials");
}

#[test]
fn anonymous_is_offered_and_taken_only_when_configured() {
    let auth = broker().auth;
    assert_eq!(auth.mechanisms(), [Mechanism::Plain, Mechanism::AmqPlain]);
    assert!(auth.authenticate(Mechanism::Anonymous, b"", true).is_err());

    let config = Config {
        anonymous_login_user: Some("guest".into()),
        ..Config::default()
    };
    let auth = Broker::first_start(config).auth;
    assert!(auth.mechanisms().contains(&Mechanism::Anonymous));
    let user = auth.authenticate(Mechanism::Anonymous, b"x", true).unwrap();
    assert_eq!(&**user.name(), "guest");
    assert!(
        auth.authenticate(Mechanism::Anonymous, b"x", false)
            .is_err()
    );
}

#[test]
fn each_kind_of_access_has_its_pattern() {
    let (broker, user) = broker().with_user("u", ["^c-", "^w-", "^r-"]);
    for (permission, allowed) in [
        (Permission::Configure, "c-1"),
        (Permission::Write, "w-1"),
        (Permission::Read, "r-1"),
    ] {
        for name in ["c-1", "w-1", "r-1"] {
            let queue = broker
                .auth
                .check(&user, "/", permission, Resource::Queue(name));
            let exchange = broker
                .auth
                .check(&user, "/", permission, Resource::Exchange(name));
            assert_eq!(queue.is_ok(), name == allowed, "{permission} {name}");
            assert_eq!(exchange.is_ok(), name == allowed, "{permission} {name}");
        }
    }
}

#[test]
fn the_default_exchange_is_checked_by_its_long_name() {
    let (broker, user) = broker().with_user("u", ["", "^amq\\.default$", ""]);
    let check = |permission, resource| broker.auth.check(&user, "/", permission, resource);
    assert_eq!(check(Permission::Write, Resource::Exchange("")), Ok(()));
    let refused = check(Permission::Read, Resource::Exchange("")).unwrap_err();
    let expected = "read access to exchange 'amq.default' in vhost '/' refused for user 'u'";
    assert_eq!(refused.to_string(), expected);
    // An empty queue name is none of the default exchange's business.
    assert!(check(Permission::Write, Resource::Queue("")).is_err());
}

#[test]
fn refusals_have_rabbitmqs_texts() {
    let (broker, user) = broker().with_user("u", [""; 3]);
    let refused = broker
        .auth
        .check(&user, "/", Permission::Configure, Resource::Queue("q"));
    let expected = "configure access to queue 'q' in vhost '/' refused for user 'u'";
    assert_eq!(refused.unwrap_err().to_string(), expected);
    let refused = broker.auth.check_vhost(&user, "other").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "access to vhost 'other' refused for user 'u'"
    );
}

#[test]
fn a_vhost_is_entered_with_any_permissions_there() {
    let (mut broker, user) = broker().with_user("u", [""; 3]);
    assert_eq!(broker.auth.check_vhost(&user, "/"), Ok(()));
    broker.change(|auth, push| auth.clear_permissions(push, "u", "/").unwrap());
    assert!(broker.auth.check_vhost(&user, "/").is_err());
}

#[test]
fn changes_count_and_take_effect_at_once() {
    let (mut broker, user) = broker().with_user("u", [".*"; 3]);
    let version = broker.auth.version();
    broker.change(|auth, push| auth.delete_user(push, "u").unwrap());
    assert!(broker.auth.version() > version);
    let queue = Resource::Queue("q");
    assert!(
        broker
            .auth
            .check(&user, "/", Permission::Read, queue)
            .is_err()
    );
    assert!(broker.plain("u", "pw").is_err());
}

#[test]
fn users_and_permissions_survive_a_restart() {
    let (mut broker, _) = broker().with_user("ü ser", ["^a", "^b", "^(?!c)"]);
    let other = PasswordHash::new("other").unwrap();
    broker.change(|auth, push| {
        auth.change_password(push, "ü ser", other).unwrap();
        auth.set_tags(push, "ü ser", &["management", "impersonator"])
            .unwrap();
        auth.delete_user(push, "guest").unwrap();
    });
    let (users, permissions) = (broker.auth.users(), broker.auth.permissions("ü ser"));

    let broker = broker.restarted();
    assert_eq!(broker.auth.users(), users);
    assert_eq!(broker.auth.permissions("ü ser"), permissions);
    assert!(broker.plain("guest", "guest").is_err());
    assert!(broker.plain("ü ser", "pw").is_err());
    let user = broker.plain("ü ser", "other").unwrap();
    assert!(user.has_tag("impersonator"));
    let check = |name| {
        broker
            .auth
            .check(&user, "/", Permission::Read, Resource::Queue(name))
    };
    assert_eq!((check("x").is_ok(), check("cx").is_ok()), (true, false));
}

#[test]
fn a_deleted_user_or_vhost_leaves_no_rows() {
    let (mut broker, _) = broker().with_user("u", [".*"; 3]);
    broker.change(|auth, push| auth.clear_vhost(push, "/"));
    assert_eq!(broker.auth.permissions("u"), []);
    assert_eq!(broker.rows.len(), 2, "the users remain");
    broker.change(|auth, push| {
        auth.delete_user(push, "u").unwrap();
        auth.delete_user(push, "guest").unwrap();
    });
    assert!(broker.rows.is_empty());
    // A user of the same name starts from nothing.
    let broker = broker.with_user("u", [".*"; 3]).0.restarted();
    assert_eq!(broker.auth.permissions("u").len(), 1);
}

#[test]
fn impossible_changes_change_nothing() {
    let mut broker = broker();
    let rows = broker.rows.clone();
    let hash = || PasswordHash::new("x").unwrap();
    let permissions = |read: &str| Permissions {
        configure: String::new(),
        write: String::new(),
        read: read.into(),
    };
    broker.change(|auth, push| {
        let version = auth.version();
        let no_user = Err(ChangeError::NoSuchUser("u".into()));
        assert_eq!(auth.delete_user(push, "u"), no_user);
        assert_eq!(auth.change_password(push, "u", hash()), no_user);
        assert_eq!(auth.set_tags(push, "u", &[]), no_user);
        assert_eq!(
            auth.set_permissions(push, "u", "/", &permissions("")),
            no_user
        );
        assert_eq!(auth.clear_permissions(push, "u", "/"), no_user);
        let exists = Err(ChangeError::UserExists("guest".into()));
        assert_eq!(auth.add_user(push, "guest", hash(), &[]), exists);
        for name in ["", "a\0b"] {
            let invalid = Err(ChangeError::InvalidName);
            assert_eq!(auth.add_user(push, name, hash(), &[]), invalid);
            assert_eq!(
                auth.set_permissions(push, "guest", name, &permissions("")),
                invalid
            );
        }
        let refused = auth.set_permissions(push, "guest", "/", &permissions("("));
        assert!(
            matches!(refused, Err(ChangeError::InvalidPattern { .. })),
            "{refused:?}"
        );
        assert_eq!(auth.version(), version);
    });
    assert_eq!(broker.rows, rows);
}

#[test]
fn rows_of_a_newer_broker_stop_the_start() {
    let rows: [(&[u8], &[u8]); 4] = [
        (b"u/u", b"{\"tags\":[]}"),
        (b"u/\xff", b"{}"),
        (
            b"p/no-user",
            b"{\"configure\":\"\",\"write\":\"\",\"read\":\"\"}",
        ),
        (b"p//\0u", b"?"),
    ];
    for row in rows {
        assert!(Auth::recover([row].into_iter(), &Config::default()).is_err());
    }
    let others: [(&[u8], &[u8]); 2] = [(b"v//", b"?"), (b"us", b"?")];
    assert!(Auth::recover(others.into_iter(), &Config::default()).is_ok());
}
