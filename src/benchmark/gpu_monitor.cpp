// SPDX-License-Identifier: Apache-2.0
#include "benchmark/gpu_monitor.h"

#include <array>

#include "base/error.h"
#include "benchmark/device.h"
#include "benchmark/library.h"

namespace rtlynx::benchmark {
namespace {

// The binary interface, as nvml.h declares it.
using Status = int;  // 0: success
using Device = struct DeviceTag*;

constexpr int kSmClock = 1;         // NVML_CLOCK_SM
constexpr int kMemoryClock = 2;     // NVML_CLOCK_MEM
constexpr int kGpuTemperature = 0;  // NVML_TEMPERATURE_GPU
constexpr const char* kNames[] = {"libnvidia-ml.so.1"};

void check(Status status, const char* call) {
  if (status != 0) fail(call, "status 0", std::to_string(status));
}

}  // namespace

struct GpuMonitor::Nvml {
  Nvml() : library(kNames, {}) {
    library.load(init, "nvmlInit_v2");
    library.load(shutdown, "nvmlShutdown");
    library.load(get_device, "nvmlDeviceGetHandleByPciBusId_v2");
    library.load(get_driver, "nvmlSystemGetDriverVersion");
    library.load(get_clock, "nvmlDeviceGetClockInfo");
    library.load(get_power, "nvmlDeviceGetPowerUsage");
    library.load(get_power_limit, "nvmlDeviceGetEnforcedPowerLimit");
    library.load(get_temperature, "nvmlDeviceGetTemperature");
    int ordinal = 0;
    std::array<char, 32> bus{};
    check_cuda(cudaGetDevice(&ordinal), "cudaGetDevice");
    check_cuda(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), ordinal),
               "cudaDeviceGetPCIBusId");
    check(init(), "nvmlInit_v2");
    const Status status = get_device(bus.data(), &device);
    if (status != 0) shutdown();
    check(status, "nvmlDeviceGetHandleByPciBusId_v2");
  }
  ~Nvml() { shutdown(); }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  Library library;
  Device device = nullptr;

  Status (*init)();
  Status (*shutdown)();
  Status (*get_device)(const char* bus, Device*);
  Status (*get_driver)(char* text, unsigned bytes);
  Status (*get_clock)(Device, int clock, unsigned* mhz);
  Status (*get_power)(Device, unsigned* milliwatts);
  Status (*get_power_limit)(Device, unsigned* milliwatts);
  Status (*get_temperature)(Device, int sensor, unsigned* celsius);
};

GpuMonitor::GpuMonitor() {
  try {
    nvml_ = std::make_unique<Nvml>();
  } catch (const Error& error) {
    missing_ = error.what();
  }
}

GpuMonitor::~GpuMonitor() = default;

std::string GpuMonitor::driver() const {
  std::array<char, 96> text{};
  if (nvml_ == nullptr || nvml_->get_driver(text.data(), text.size()) != 0) return {};
  return text.data();
}

GpuState GpuMonitor::read() const {
  GpuState state;
  if (nvml_ == nullptr) return state;
  unsigned value = 0;
  if (nvml_->get_clock(nvml_->device, kSmClock, &value) == 0) state.sm_mhz = value;
  if (nvml_->get_clock(nvml_->device, kMemoryClock, &value) == 0) state.memory_mhz = value;
  if (nvml_->get_power(nvml_->device, &value) == 0) state.watts = value / 1e3;
  if (nvml_->get_power_limit(nvml_->device, &value) == 0) state.watts_limit = value / 1e3;
  if (nvml_->get_temperature(nvml_->device, kGpuTemperature, &value) == 0) state.celsius = value;
  return state;
}

}  // namespace rtlynx::benchmark
