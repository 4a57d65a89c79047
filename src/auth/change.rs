//! Changes of users and permissions.
//!
//! Each takes `push`, which hands an operation to the store within the caller's visit. It is called while
//! the directory is locked, so that memory and disk see all changes in the same order. What is pushed is
//! durable when the visit's ticket is.

use std::sync::Arc;

use super::directory::{Account, CompiledPermissions, Login, encode, permission_key, user_key};
use super::{Auth, Change, ChangeError, Directory, PasswordHash, Permissions, UserLimits};
use crate::message::op::Op;

impl Auth {
    /// Creates a user without any permissions.
    ///
    /// # Errors
    /// The user exists, or the name is empty or contains a null character.
    pub fn add_user(
        &self,
        push: &mut dyn FnMut(Op),
        name: &str,
        password: PasswordHash,
        tags: &[&str],
    ) -> Result<(), ChangeError> {
        check_name(name)?;
        let tags = shared(tags);
        let tags_set = Arc::clone(&tags);
        self.change(|directory| {
            if directory.accounts.contains_key(name) {
                return Err(ChangeError::UserExists(name.to_owned()));
            }
            let limits = UserLimits::default();
            let login = Login {
                password,
                tags,
                limits,
            };
            push(put(user_key(name), &login));
            let account = Account::new(login);
            directory.accounts.insert(name.into(), account);
            Ok(())
        })?;
        self.observed.tell(&Change::UserCreated { user: name });
        let (user, tags) = (name, &tags_set[..]);
        self.observed.tell(&Change::TagsSet { user, tags });
        Ok(())
    }

    /// Removes a user and its permissions.
    ///
    /// # Errors
    /// There is no such user.
    pub fn delete_user(&self, push: &mut dyn FnMut(Op), name: &str) -> Result<(), ChangeError> {
        self.change(|directory| {
            let account = directory.accounts.remove(name);
            let account = account.ok_or_else(|| ChangeError::NoSuchUser(name.to_owned()))?;
            for vhost in account.permissions.keys() {
                push(delete(permission_key(vhost, name)));
            }
            push(delete(user_key(name)));
            Ok(())
        })?;
        self.observed.tell(&Change::UserDeleted { user: name });
        Ok(())
    }

    /// Gives a user another password. Connections that it has are left alone.
    ///
    /// # Errors
    /// There is no such user.
    pub fn change_password(
        &self,
        push: &mut dyn FnMut(Op),
        name: &str,
        password: PasswordHash,
    ) -> Result<(), ChangeError> {
        self.change_login(push, name, |login| login.password = password)?;
        self.observed.tell(&Change::PasswordChanged { user: name });
        Ok(())
    }

    /// Replaces the tags of a user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_tags(
        &self,
        push: &mut dyn FnMut(Op),
        name: &str,
        tags: &[&str],
    ) -> Result<(), ChangeError> {
        let tags = shared(tags);
        self.change_login(push, name, |login| login.tags = Arc::clone(&tags))?;
        let (user, tags) = (name, &tags[..]);
        self.observed.tell(&Change::TagsSet { user, tags });
        Ok(())
    }

    /// Replaces the limits of a user. What it has open stays open.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_limits(
        &self,
        push: &mut dyn FnMut(Op),
        name: &str,
        limits: UserLimits,
    ) -> Result<(), ChangeError> {
        self.change_login(push, name, |login| login.limits = limits)?;
        let user = name;
        self.observed.tell(&Change::LimitsSet { user, limits });
        Ok(())
    }

    /// Replaces the permissions of a user in a vhost, which the caller knows to exist.
    ///
    /// # Errors
    /// There is no such user, a pattern is no regular expression, or the name of the vhost contains a null
    /// character.
    pub fn set_permissions(
        &self,
        push: &mut dyn FnMut(Op),
        user: &str,
        vhost: &str,
        permissions: &Permissions,
    ) -> Result<(), ChangeError> {
        check_name(vhost)?;
        let compiled = Arc::new(CompiledPermissions::compile(permissions)?);
        self.change(|directory| {
            let account = account(directory, user)?;
            push(put(permission_key(vhost, user), permissions));
            account.permissions.insert(vhost.into(), compiled);
            Ok(())
        })?;
        self.observed.tell(&Change::PermissionSet {
            user,
            vhost,
            permissions,
        });
        Ok(())
    }

    /// Takes all permissions in a vhost from a user; it is no error when it has none.
    ///
    /// # Errors
    /// There is no such user.
    pub fn clear_permissions(
        &self,
        push: &mut dyn FnMut(Op),
        user: &str,
        vhost: &str,
    ) -> Result<(), ChangeError> {
        let mut had_some = false;
        self.change(|directory| {
            let removed = account(directory, user)?.permissions.remove(vhost);
            had_some = removed.is_some();
            if had_some {
                push(delete(permission_key(vhost, user)));
            }
            Ok(())
        })?;
        if had_some {
            let cleared = Change::PermissionCleared { user, vhost };
            self.observed.tell(&cleared);
        }
        Ok(())
    }

    /// Takes the permissions in a vhost from all users: the vhost is deleted.
    pub fn clear_vhost(&self, push: &mut dyn FnMut(Op), vhost: &str) {
        let mut cleared = Vec::new();
        let mut directory = self.directory.write();
        for (user, account) in &mut directory.accounts {
            if account.permissions.remove(vhost).is_some() {
                push(delete(permission_key(vhost, user)));
                cleared.push(Arc::clone(user));
            }
        }
        self.count_change();
        drop(directory);
        for user in &cleared {
            self.observed
                .tell(&Change::PermissionCleared { user, vhost });
        }
    }

    fn change_login(
        &self,
        push: &mut dyn FnMut(Op),
        name: &str,
        change: impl FnOnce(&mut Login),
    ) -> Result<(), ChangeError> {
        self.change(|directory| {
            let account = account(directory, name)?;
            change(&mut account.login);
            account.rates.set(&account.login.limits.rates);
            push(put(user_key(name), &account.login));
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Directory) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let mut directory = self.directory.write();
        change(&mut directory)?;
        self.count_change();
        Ok(())
    }
}

fn account<'a>(directory: &'a mut Directory, user: &str) -> Result<&'a mut Account, ChangeError> {
    let account = directory.accounts.get_mut(user);
    account.ok_or_else(|| ChangeError::NoSuchUser(user.to_owned()))
}

/// Refuses names that no user can have, nor a virtual host with permissions in it.
///
/// # Errors
/// It is empty or contains a null character.
pub fn check_name(name: &str) -> Result<(), ChangeError> {
    // The null character separates vhost and user in the keys.
    if name.is_empty() || name.contains('\0') {
        return Err(ChangeError::InvalidName);
    }
    Ok(())
}

fn shared(tags: &[&str]) -> Arc<[Arc<str>]> {
    tags.iter().map(|tag| Arc::from(*tag)).collect()
}

fn put(key: Vec<u8>, value: &impl serde::Serialize) -> Op {
    let value = encode(value);
    Op::PutState { key, value }
}

fn delete(key: Vec<u8>) -> Op {
    Op::DeleteState { key }
}
