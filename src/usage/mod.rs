//! Money: what a use costs a tenant, and the limits of it. Pure functions of units, prices and days.

mod budget;
mod factor;
mod money;
mod price_list;
mod rate;
mod terms;
mod zone;

pub use budget::{Budget, Period};
pub use factor::Factor;
pub use money::Amount;
pub use price_list::{PriceList, PriceRow};
pub use rate::Rate;
pub use terms::{Charge, Terms};
pub use zone::Zone;
