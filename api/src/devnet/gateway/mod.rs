//! The gateway and the bundler: reading and writing "Arweave".

pub mod graphql;
pub mod query;
pub mod routes;

#[cfg(test)]
mod tests;
