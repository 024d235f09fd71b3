// How long threads of OpenMP wait for each other before they sleep. Baseline code.
//
// GCC's runtime (libgomp), which PyTorch's operators use too, lets a waiting thread spin for
// 300,000 rounds, some milliseconds, and reads no other number after it was loaded. But it spins
// for 100 rounds only while it has more threads than there are processors (its manual,
// GOMP_SPINCOUNT). So a few threads that do nothing but sleep make all others wait briefly, for as
// long as they exist.

#include "../fastnst.h"

#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__)
#define FASTNST_WAITING

#include <omp.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#endif

namespace fastnst {

#ifdef FASTNST_WAITING
namespace {

// A team of OpenMP threads beside the caller's that sleeps until it is dismissed.
class SleepingTeam {
  public:
    explicit SleepingTeam(int threads) : leader_([this, threads] { lead(threads); }) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return gathered_; });
    }
    ~SleepingTeam() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            dismissed_ = true;
        }
        changed_.notify_all();
        leader_.join();  // the runtime ends the team with the thread that leads it
    }
    SleepingTeam(const SleepingTeam&) = delete;
    SleepingTeam& operator=(const SleepingTeam&) = delete;

  private:
    void lead(int threads) {
        // As many as are asked for, also where OMP_DYNAMIC would give fewer.
        omp_set_dynamic(0);
        int present = 0;
#pragma omp parallel num_threads(threads) reduction(+ : present)
        present += 1;
        std::unique_lock<std::mutex> lock(mutex_);
        gathered_ = present > 0;
        changed_.notify_all();
        changed_.wait(lock, [this] { return dismissed_; });
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool gathered_ = false, dismissed_ = false;
    std::thread leader_;  // the last member: it starts when the others are there
};

std::mutex waiting_mutex;
// Never destroyed: at the exit of the process the runtime may be gone already.
std::unique_ptr<SleepingTeam>& sleeping_team() {
    static auto* const team = new std::unique_ptr<SleepingTeam>;
    return *team;
}

}  // namespace
#endif

bool can_wait_briefly() {
#ifdef FASTNST_WAITING
    return true;
#else
    return false;
#endif
}

void wait_briefly(bool briefly, int threads) {
#ifdef FASTNST_WAITING
    const std::lock_guard<std::mutex> lock(waiting_mutex);
    std::unique_ptr<SleepingTeam>& team = sleeping_team();
    if (briefly == (team != nullptr)) return;
    if (!briefly) {
        team.reset();
        return;
    }
    // The caller's threads and those of the team but its leader, who is not counted, are one more
    // than the processors at least.
    team = std::make_unique<SleepingTeam>(std::max(2, omp_get_num_procs() + 2 - threads));
#else
    (void)briefly;
    (void)threads;
#endif
}

}  // namespace fastnst
