//! Host functions on time: a counter for clocks, and calendars in UTC.

use super::{
    calendar::{self, Tm, Zone},
    files::Glue,
    host::{Guest, Throw, glue},
    link::{Args, Ret},
    text::JsString,
};

type Answer = wasmtime::Result<Ret>;

/// Most bytes that one formatted date may have, whatever room the guest offers.
const FORMATTED_MAX: u64 = 1 << 20;

fn glue_of(guest: &Guest<'_, '_>) -> Glue {
    glue(guest.caller.data().format).unwrap_or(Glue::Emscripten2)
}

fn out_of_bounds() -> wasmtime::Error {
    Throw::Abort("a time structure lies outside of memory".into()).into()
}

/// A clock that stands at the epoch (`date_now` of the two oldest glues).
pub fn epoch(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(0.into())
}

/// `emscripten_date_now`, `emscripten_get_now`: the evaluation's counter, milliseconds.
pub fn date_now(guest: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(guest.caller.data_mut().clock.tick().into())
}

/// `emscripten_get_now` of the second glue, which computes with what is no number.
pub fn not_a_number(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(Ret::Double(f64::NAN))
}

/// `_emscripten_get_now_is_monotonic`.
pub fn is_monotonic(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(1.into())
}

/// Time and structure of a conversion: `(time, tm)` with 64-bit pointers, `(low, high, tm)` in newer 32-bit glues,
/// `(address of a 32-bit time, tm)` in the two oldest.
fn time_and_structure(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> (i64, u64) {
    if guest.is_wide() {
        return (args.at(0).int(), args.at(1).pointer());
    }
    if args.len() >= 3 {
        let (low, high) = (args.at(0).i32() as u32, args.at(1).i32());
        return ((i64::from(high) << 32) | i64::from(low), args.at(2).pointer());
    }
    (guest.read_i32(args.at(0).pointer()).into(), args.at(1).pointer())
}

/// The guest's `struct tm` at `at`.
fn structure<'a>(guest: &'a mut Guest<'_, '_>, at: u64) -> wasmtime::Result<&'a mut [u8]> {
    let bytes = Tm::bytes(guest.is_wide());
    let slot = guest.bytes(at, bytes as u64);
    if slot.len() < bytes { Err(out_of_bounds()) } else { Ok(slot) }
}

/// `_gmtime_js`.
pub fn gmtime(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (time, at) = time_and_structure(guest, args);
    calendar::gmtime(time).store_gmtime(structure(guest, at)?);
    Ok(0.into())
}

/// `_localtime_js`.
pub fn localtime(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (time, at) = time_and_structure(guest, args);
    let (glue, wide) = (glue_of(guest), guest.is_wide());
    let tm = calendar::localtime(glue, time).map_err(|abort| Throw::Abort(abort.0))?;
    tm.store_localtime(structure(guest, at)?, wide);
    Ok(0.into())
}

/// `_mktime_js(tm)`: normalises the structure, gives seconds since 1970.
pub fn mktime(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (glue, wide) = (glue_of(guest), guest.is_wide());
    let slot = structure(guest, args.at(0).pointer())?;
    let (tm, seconds) = calendar::mktime(glue, &Tm::load(slot, wide));
    tm.store_localtime(slot, wide);
    Ok(seconds.into())
}

/// `_tzset_js(timezone, daylight, names...)`: the two oldest glues take one array of two names and allocate them in the
/// guest, once for each instance; newer ones copy into two buffers.
pub fn tzset(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let Zone { timezone, daylight, name } = calendar::zone(glue_of(guest));
    let old = args.len() < 4;
    if old && std::mem::replace(&mut guest.caller.data_mut().time_zone_is_set, true) {
        return Ok(0.into());
    }
    guest.write_pointer(args.at(0).pointer(), i64::from(timezone) as u64);
    guest.write_i32(args.at(1).pointer(), daylight);
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    if !old {
        guest.write_bytes(args.at(3).pointer(), &text);
        guest.write_bytes(args.at(2).pointer(), &text);
        return Ok(0.into());
    }
    let malloc = guest.caller.data().exports.malloc.clone();
    let malloc = malloc.ok_or_else(|| Throw::Abort("the module exports no malloc".into()))?;
    let winter = malloc.call(&mut *guest.caller, text.len() as u64)?;
    guest.write_bytes(winter, &text);
    let summer = malloc.call(&mut *guest.caller, text.len() as u64)?;
    guest.write_bytes(summer, &text);
    let names = args.at(2).pointer();
    guest.write_pointer(names, summer);
    guest.write_pointer(names + 4, winter);
    Ok(0.into())
}

/// `strftime(buffer, room, format, tm)` and `strftime_l`: bytes written without the terminator, 0 if there is no room.
pub fn strftime(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let wide = guest.is_wide();
    let pattern = guest.read_string(args.at(2).pointer());
    let slot = structure(guest, args.at(3).pointer())?;
    let (tm, zone) = (Tm::load(slot, wide), Tm::load_zone(slot, wide));
    let zone = if zone == 0 { JsString::default() } else { guest.read_string(zone) };
    let room = args.at(1).pointer().min(FORMATTED_MAX);
    match calendar::strftime(&pattern, &tm, &zone, room).map_err(|abort| Throw::Abort(abort.0))? {
        Some(text) => {
            guest.write_bytes(args.at(0).pointer(), &text);
            Ok((text.len() as i64 - 1).into())
        }
        None => Ok(0.into()),
    }
}
