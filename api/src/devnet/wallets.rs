//! The development network's keys: fixed, in the open, and worthless. Generating RSA-4096 keys at each start would take
//! seconds, and fixed addresses make scripts simple.

use lockstep_cu::item::{Wallet, WalletError};

const SCHEDULER: &str = include_str!("wallets/PUBLIC-scheduler.json");
const MESSENGER: &str = include_str!("wallets/PUBLIC-messenger.json");
const USER: &str = include_str!("wallets/PUBLIC-user.json");

/// The scheduler's wallet.
pub fn scheduler() -> Wallet {
    shipped(SCHEDULER)
}

/// The messenger's wallet: the authority that processes trust.
pub fn messenger() -> Wallet {
    shipped(MESSENGER)
}

/// The wallet of the demo's user.
pub fn user() -> Wallet {
    shipped(USER)
}

fn shipped(text: &str) -> Wallet {
    let wallet: Result<Wallet, WalletError> = Wallet::from_jwk(text);
    wallet.expect("the shipped wallets are RSA-4096 keys; a test reads each")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shipped_wallets_are_three_different_ones() {
        let addresses = [super::scheduler(), super::messenger(), super::user()].map(|wallet| *wallet.address());
        assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2] && addresses[0] != addresses[2]);
    }
}
