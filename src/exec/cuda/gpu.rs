//! A GPU: found, opened, with the kernels that were asked of it.

#![allow(unsafe_code)] // reason: the driver is a C library

use super::super::error::DeviceError;
use super::ptx::{Image, images};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DeviceRepr, DriverError, PinnedHostSlice,
    ValidAsZeroBits, result, sys,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

/// Least compute capability: that of the kernels' PTX.
const LEAST_CAPABILITY: (u32, u32) = (7, 5);
/// Least driver, as CUDA's version: the PTX is of version 8.0.
const LEAST_DRIVER: i32 = 12_000;
/// Dynamic shared memory that a kernel has without asking.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// A GPU with one stream, on which everything runs in order, and a second for what a recorded step does beside it.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    side: Arc<CudaStream>,
    index: usize,
    name: String,
    capability: (u32, u32),
    driver: i32,
    kernels: Mutex<Kernels>,
}

/// Loaded when first asked for.
#[derive(Default)]
struct Kernels {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    /// With the dynamic shared memory that each may use.
    functions: HashMap<String, (CudaFunction, u32)>,
}

impl Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.index, self.name)
    }
}

/// A closure that turns the driver's refusal to do something into an error.
pub(super) fn refused<'a>(doing: &'a str) -> impl Fn(DriverError) -> DeviceError + 'a {
    move |error| DeviceError::Driver { doing: doing.into(), reason: reason(error) }
}

/// The driver's name of an error: `CUDA_ERROR_NO_DEVICE`.
fn reason(error: DriverError) -> String {
    format!("{:?}", error.0)
}

impl Gpu {
    /// How many GPUs the driver sees.
    ///
    /// # Errors
    /// There is no driver, or it does not start.
    pub fn count() -> Result<usize, DeviceError> {
        // SAFETY: asks the system's loader for libcuda by name; nothing of it is called.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver);
        }
        let no_gpu = |reason| DeviceError::NoGpu { reason };
        match guarded(CudaContext::device_count)? {
            Ok(0) => Err(no_gpu("it counts none".into())),
            Ok(count) => Ok(count as usize),
            Err(error) => Err(no_gpu(reason(error))),
        }
    }

    /// Opens the GPU of this number.
    ///
    /// # Errors
    /// There is none, or it or its driver is too old.
    pub fn open(index: usize) -> Result<Arc<Gpu>, DeviceError> {
        let count = Gpu::count()?;
        if index >= count {
            let count = if count == 1 { "one GPU".to_string() } else { format!("{count} GPUs") };
            return Err(DeviceError::NoSuchGpu { index, count });
        }
        guarded(|| Gpu::open_existing(index))?
    }

    fn open_existing(index: usize) -> Result<Arc<Gpu>, DeviceError> {
        let mut driver = 0;
        // SAFETY: writes one int.
        unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(refused("tell its driver's version"))?;
        if driver < LEAST_DRIVER {
            return Err(DeviceError::OldDriver { found: format!("{}.{}", driver / 1000, driver % 1000 / 10) });
        }
        let context = CudaContext::new(index).map_err(refused("be opened"))?;
        let name = context.name().map_err(refused("tell its name"))?;
        let (major, minor) = context.compute_capability().map_err(refused("tell its compute capability"))?;
        let capability = (major as u32, minor as u32);
        if capability < LEAST_CAPABILITY {
            return Err(DeviceError::OldGpu { index, name, major: capability.0, minor: capability.1 });
        }
        // SAFETY: all work is on one stream, but for launches of a recorded step, whose order the recording's own events tell.
        unsafe { context.disable_event_tracking() };
        let open = || context.new_stream().map_err(refused("open a stream"));
        let (stream, side) = (open()?, open()?);
        let kernels = Mutex::default();
        Ok(Arc::new(Gpu { context, stream, side, index, name, capability, driver, kernels }))
    }

    /// Its number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its compute capability, major and minor.
    pub fn capability(&self) -> (u32, u32) {
        self.capability
    }

    /// The version of CUDA that its driver knows: 12080 is 12.8.
    pub fn driver(&self) -> i32 {
        self.driver
    }

    /// Bytes of memory, free and in all.
    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        self.context.mem_get_info().map_err(refused("tell its free memory"))
    }

    /// The stream that everything runs on.
    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The stream beside it.
    pub(super) fn side(&self) -> &Arc<CudaStream> {
        &self.side
    }

    /// Waits until everything is done; errors of kernels come to light here.
    pub(super) fn finish(&self) -> Result<(), DeviceError> {
        self.stream.synchronize().map_err(refused("finish its work"))
    }

    /// A kernel, with leave to use so much dynamic shared memory, or more where another launch of it has asked for more.
    pub(super) fn kernel(&self, name: &str, shared: u32) -> Result<CudaFunction, DeviceError> {
        let mut kernels = self.kernels();
        let (function, leave) = match kernels.functions.get(name) {
            Some(known) => known.clone(),
            None => (self.load(&mut kernels.modules, name)?, SHARED_WITHOUT_ASKING),
        };
        if shared > leave {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let doing = format!("give the kernel {name} {shared} bytes of shared memory");
            function.set_attribute(most, shared as i32).map_err(refused(&doing))?;
        }
        kernels.functions.insert(name.into(), (function.clone(), shared.max(leave)));
        Ok(function)
    }

    fn kernels(&self) -> MutexGuard<'_, Kernels> {
        self.kernels.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn load(
        &self,
        modules: &mut HashMap<&'static str, Arc<CudaModule>>,
        name: &str,
    ) -> Result<CudaFunction, DeviceError> {
        let unknown =
            || DeviceError::Driver { doing: format!("run the kernel {name}"), reason: "no PTX has it".into() };
        let image = Image::of(name).ok_or_else(unknown)?;
        let module = match modules.get(image.name) {
            Some(module) => module.clone(),
            None => {
                let doing = format!("load the kernels of {}", image.name);
                let module = self.context.load_module(Ptx::from_src(&image.text)).map_err(refused(&doing))?;
                modules.insert(image.name, module.clone());
                module
            }
        };
        module.load_function(name).map_err(refused(&format!("find the kernel {name}")))
    }

    /// Loads every kernel there is for this chip; how many there are.
    ///
    /// # Errors
    /// The driver refuses one.
    pub fn load_all(&self) -> Result<usize, DeviceError> {
        let mut count = 0;
        for image in images().iter().filter(|image| self.capability >= (8, 0) || !image.text.contains(".target sm_80"))
        {
            for entry in image.entries() {
                self.kernel(entry.name, 0)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// A stream beside both.
    pub(super) fn another_stream(&self) -> Result<Arc<CudaStream>, DeviceError> {
        self.context.new_stream().map_err(refused("open a stream"))
    }

    /// An event that has happened until it is recorded.
    pub(super) fn event(&self) -> Result<CudaEvent, DeviceError> {
        self.context.new_event(None).map_err(refused("make an event"))
    }

    /// So many zeros in the GPU's memory; an empty buffer still has an address.
    pub(super) fn zeros(&self, len: usize) -> Result<CudaSlice<f32>, DeviceError> {
        self.stream.alloc_zeros(len.max(1)).map_err(refused("give memory"))
    }

    /// So many zeros in page-locked host memory, which copies read after their call has returned.
    pub(super) fn page_locked<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        len: usize,
    ) -> Result<PinnedHostSlice<T>, DeviceError> {
        let refused = refused("lock memory of the host for it");
        // Also read by the host, so not write-combined.
        // SAFETY: unset until it is filled just below.
        let mut slice = unsafe { self.context.alloc_pinned_with_flags(len.max(1), 0) }.map_err(&refused)?;
        let start: *mut T = slice.as_mut_ptr().map_err(&refused)?;
        // SAFETY: `start` is that of an allocation of so many numbers, for which zero bits are a value.
        unsafe { start.write_bytes(0, slice.len()) };
        Ok(slice)
    }

    /// Page-locked memory as the host writes it.
    pub(super) fn host<'s, T: ValidAsZeroBits>(
        &self,
        slice: &'s mut PinnedHostSlice<T>,
    ) -> Result<&'s mut [T], DeviceError> {
        slice.as_mut_slice().map_err(refused("lock memory of the host for it"))
    }

    /// Copies page-locked host memory to the device, in the order of `stream`, after the call has returned.
    ///
    /// # Safety
    /// `from` must live, and not be written, until the stream is through with it.
    ///
    /// # Panics
    /// If `from` is larger than the region.
    pub(super) unsafe fn upload_later<T>(
        &self,
        stream: &CudaStream,
        to: Region<'_>,
        from: &[T],
    ) -> Result<(), DeviceError> {
        to.check(from);
        self.context.bind_to_thread().map_err(refused("be used on this thread"))?;
        // SAFETY: the region is part of a buffer, and at least as large as `from`; the rest is the caller's contract.
        unsafe { result::memcpy_htod_async(to.address, from, stream.cu_stream()) }.map_err(refused("take in data"))
    }

    /// Copies pageable host memory to the device, in the order of the stream.
    ///
    /// # Panics
    /// If `from` is larger than the region.
    pub(super) fn upload<T: DeviceRepr>(&self, to: Region<'_>, from: &[T]) -> Result<(), DeviceError> {
        to.check(from);
        self.context.bind_to_thread().map_err(refused("be used on this thread"))?;
        // SAFETY: the region is part of a buffer, and at least as large as `from`; a copy from pageable memory has read it when the
        // call returns.
        unsafe { result::memcpy_htod_async(to.address, from, self.stream.cu_stream()) }.map_err(refused("take in data"))
    }

    /// Copies device memory to the host, and waits for it.
    ///
    /// # Panics
    /// If `to` is larger than the region.
    pub(super) fn download(&self, to: &mut [f32], from: Region<'_>) -> Result<(), DeviceError> {
        from.check(to);
        self.context.bind_to_thread().map_err(refused("be used on this thread"))?;
        // SAFETY: the region is part of a buffer, and at least as large as `to`, which is not touched before the stream is through.
        unsafe { result::memcpy_dtoh_async(to, from.address, self.stream.cu_stream()) }
            .map_err(refused("give back results"))?;
        self.finish()
    }
}

/// Contiguous memory of a buffer on the GPU, as the end of a copy.
#[derive(Clone, Copy)]
pub(super) struct Region<'b> {
    address: sys::CUdeviceptr,
    bytes: usize,
    buffer: PhantomData<&'b ()>,
}

impl<'b> Region<'b> {
    /// A whole buffer.
    pub fn of<T>(buffer: &'b CudaSlice<T>, gpu: &Gpu) -> Region<'b> {
        Region { address: super::address(buffer, gpu), bytes: size_of::<T>() * buffer.len(), buffer: PhantomData }
    }

    /// `len` numbers of type `T`, the first of them number `first` of the region.
    ///
    /// # Panics
    /// If they are not in the region.
    pub fn part<T>(self, first: usize, len: usize) -> Region<'b> {
        let bytes = |numbers: usize| numbers.checked_mul(size_of::<T>());
        let end = first.checked_add(len).and_then(bytes);
        assert!(end.is_some_and(|end| end <= self.bytes), "numbers {first} to {first} + {len} are not in the buffer");
        let (offset, bytes) = (first * size_of::<T>(), len * size_of::<T>());
        Region { address: self.address + offset as u64, bytes, ..self }
    }

    /// Its first byte.
    pub fn address(self) -> sys::CUdeviceptr {
        self.address
    }

    fn check<T>(self, host: &[T]) {
        let bytes = size_of_val(host);
        assert!(bytes <= self.bytes, "a copy of {bytes} bytes exceeds the {} bytes of its region", self.bytes);
    }
}

/// What `work` gives; cudarc panics where the driver's library lacks a function.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, DeviceError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        DeviceError::NoGpu { reason: text.unwrap_or_else(|| "its library is incomplete".into()) }
    })
}
