use candle_core::Device;

/// Picks the device to run on: Metal, else CUDA, each if it was compiled in and answers; else the CPU.
pub fn pick() -> Device {
    if candle_core::utils::metal_is_available()
        && let Ok(device) = Device::new_metal(0)
    {
        return device;
    }
    if candle_core::utils::cuda_is_available()
        && let Ok(device) = Device::new_cuda(0)
    {
        return device;
    }
    Device::Cpu
}
