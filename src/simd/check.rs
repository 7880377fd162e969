//! Whether this processor can run the program at all, and what it is called.
//!
//! In a build for certain instruction sets the standard library's detection is a constant, so the processor is asked
//! directly. Nothing here may use a vector instruction before the answer is known.
#![allow(unsafe_code)] // reason: reading XCR0 needs an instruction that the compiler cannot prove present

/// A feature that this build requires and this processor or its operating system lacks; none if it has all of them.
#[cfg(target_arch = "x86_64")]
pub fn missing_cpu_features() -> Option<&'static str> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let highest = __cpuid(0).eax;
    let basic = __cpuid(1);
    let extended = if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let lzcnt = if __cpuid(0x8000_0000).eax >= 0x8000_0001 { __cpuid(0x8000_0001).ecx } else { 0 };
    let bit = |word: u32, at: u32| word >> at & 1 == 1;
    // Registers that the operating system does not save cannot be used either.
    // SAFETY: bit 27 is OSXSAVE.
    let saved = if bit(basic.ecx, 27) { unsafe { xcr0() } } else { 0 };
    let avx = bit(basic.ecx, 28) && saved & 0b110 == 0b110;
    [
        (cfg!(target_feature = "sse4.2"), bit(basic.ecx, 20), "SSE4.2"),
        (cfg!(target_feature = "popcnt"), bit(basic.ecx, 23), "POPCNT"),
        (cfg!(target_feature = "avx"), avx, "AVX"),
        (cfg!(target_feature = "avx2"), avx && bit(extended, 5), "AVX2"),
        (cfg!(target_feature = "fma"), avx && bit(basic.ecx, 12), "FMA"),
        (cfg!(target_feature = "f16c"), avx && bit(basic.ecx, 29), "F16C"),
        (cfg!(target_feature = "movbe"), bit(basic.ecx, 22), "MOVBE"),
        (cfg!(target_feature = "bmi1"), bit(extended, 3), "BMI1"),
        (cfg!(target_feature = "bmi2"), bit(extended, 8), "BMI2"),
        (cfg!(target_feature = "lzcnt"), bit(lzcnt, 5), "LZCNT"),
        (cfg!(target_feature = "avx512f"), avx && saved & 0xe6 == 0xe6 && bit(extended, 16), "AVX-512F"),
    ]
    .into_iter()
    .find_map(|(needed, there, name)| (needed && !there).then_some(name))
}

/// A feature that this build requires and this processor lacks: none, since builds for other processors than x86-64 require only the
/// baseline.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing_cpu_features() -> Option<&'static str> {
    None
}

/// The registers that the operating system saves (XCR0).
///
/// # Safety
/// CPUID reports OSXSAVE.
#[cfg(target_arch = "x86_64")]
unsafe fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: by the caller's contract XGETBV exists; it reads register 0 and touches no memory.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The brand name of the processor; none if it does not report one.
#[cfg(target_arch = "x86_64")]
pub fn cpu_brand() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return None;
    }
    let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| {
        let part = __cpuid(leaf);
        [part.eax, part.ebx, part.ecx, part.edx]
    });
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|&b| b != 0).collect();
    let name = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

/// The brand name of the processor; none if it does not report one.
#[cfg(not(target_arch = "x86_64"))]
pub fn cpu_brand() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_processor_that_runs_the_tests_has_what_the_build_needs() {
        assert_eq!(super::missing_cpu_features(), None);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn registers_are_saved_where_detection_finds_avx() {
        // The standard library reads CPUID by itself.
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: detection reports AVX-512 only where OSXSAVE is set.
            assert_eq!(unsafe { super::xcr0() } & 0xe6, 0xe6);
        }
    }
}
