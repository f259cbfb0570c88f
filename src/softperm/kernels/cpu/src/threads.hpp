// One team of threads for everything: parts of some work are taken by whoever is awake.
//
// Where PyTorch's threads come from OpenMP they are borrowed: they stay awake for some milliseconds
// after every operation, and would keep the cores from threads of our own. OpenMP waits for every
// thread, so where other programs keep the cores busy and that takes long, the caller does without
// them for a while. Elsewhere the threads are our own, and nobody waits for one that has not begun. In
// a forked child neither exist any more, so it makes new ones of our own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(_WIN32)
#include <process.h>
#else
#include <csignal>
#include <pthread.h>
#include <ctime>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace softperm {

INLINE void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// How compiled OpenMP code starts threads, set when the library is loaded; null without OpenMP. It is
// for the process that loaded it alone.
using OpenMP = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
inline OpenMP openmp = nullptr;
inline int openmp_process = 0;

#if defined(_WIN32)
inline int process() { return _getpid(); }
inline int64_t threads_of_process() { return 0; }
inline std::chrono::nanoseconds time_on_core() { return std::chrono::steady_clock::now().time_since_epoch(); }
#else
// How long this thread has had a core.
inline std::chrono::nanoseconds time_on_core() {
    timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
}
inline int process() { return int(getpid()); }
inline int64_t threads_of_process() {
    struct stat tasks;
    return stat("/proc/self/task", &tasks) == 0 ? int64_t(tasks.st_nlink) - 2 : 0;
}
#endif

class Team {
  public:
    using Part = void (*)(void* context, int64_t part);
    using Clock = std::chrono::steady_clock;

    // Call part(context, 0), ..., part(context, parts - 1), in at most so many threads.
    void run(int64_t parts, int threads, Part part, void* context) {
        std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
        if (!turn.try_lock()) { // another thread of the program has the team
            for (int64_t k = 0; k < parts; ++k) part(context, k);
            return;
        }
        begun_ = Clock::now();
        if (begun_ < alone_until_) {
            for (int64_t k = 0; k < parts; ++k) part(context, k);
            return;
        }
        on_core_ = time_on_core();
        // First no ticket is left: a worker still looking at the last job must not take its next
        // ticket, which there is none of, for one of this job.
        const uint64_t before = ticket_.load() | NO_PART, epoch = (before >> 32) + 1;
        ticket_.store(before);
        part_.store(part, std::memory_order_release);
        context_.store(context, std::memory_order_release);
        parts_.store(parts, std::memory_order_release);
        done_.store(0, std::memory_order_relaxed);
        ticket_.store(epoch << 32);
        if (may_borrow(threads)) {
            borrow(threads);
        } else {
            hire(threads - 1);
            wake(int64_t(threads) - 1 < parts - 1 ? threads - 1 : int(parts - 1));
            while (take(epoch)) {}
            take_time();
            for (int spins = 0; done_.load(std::memory_order_acquire) < parts; ++spins) {
                if (spins < SPINS) pause();
                else std::this_thread::yield();
            }
        }
        const Clock::time_point end = Clock::now();
        const auto lost = end - begun_ - worked_;
        if (lost > 2 * worked_ + std::chrono::milliseconds(1)) alone_until_ = end + PATIENCE * lost;
    }

  private:
    static constexpr uint64_t NO_PART = 0xffffffff; // the part of a ticket where no more are given out
    static constexpr int SPINS = 2000; // some tens of microseconds
    static constexpr int PATIENCE = 20; // so many times what was waited for in vain, the caller is alone

    // Whether OpenMP's threads are there. Looking for them costs as much as a tiny matrix: only until
    // they have been seen.
    bool may_borrow(int threads) {
        if (openmp && !borrows_ && process() == openmp_process) borrows_ = threads_of_process() - workers_ >= threads;
        return borrows_;
    }

    // Do the job in OpenMP's threads: all that PyTorch uses, for it would make new ones after a change.
    void borrow(int threads) {
        caller_ = std::this_thread::get_id();
        openmp([](void* team) { static_cast<Team*>(team)->take_all(); }, this, unsigned(threads), 0);
    }
    void take_all() {
        const uint64_t epoch = ticket_.load(std::memory_order_acquire) >> 32;
        while (take(epoch)) {}
        if (std::this_thread::get_id() == caller_) take_time();
    }
    // How long the caller has had a core for its own parts of the job.
    void take_time() { worked_ = time_on_core() - on_core_; }

    // Do the next part of the job of an epoch; false where there is none left.
    bool take(uint64_t epoch) {
        uint64_t ticket = ticket_.load(std::memory_order_acquire);
        for (;;) {
            const auto part = part_.load(std::memory_order_acquire);
            void* context = context_.load(std::memory_order_acquire);
            const uint64_t next = ticket & NO_PART;
            if ((ticket >> 32) != (epoch & NO_PART) || int64_t(next) >= parts_.load(std::memory_order_acquire))
                return false;
            // It is still this job's ticket, so what was read above is this job's too.
            if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) {
                part(context, int64_t(next));
                done_.fetch_add(1, std::memory_order_release);
                return true;
            }
        }
    }

    void work() {
        uint64_t seen = 0;
        for (;;) {
            uint64_t epoch = ticket_.load(std::memory_order_acquire) >> 32;
            for (int spins = 0; epoch == seen && spins < SPINS; ++spins) {
                pause();
                epoch = ticket_.load(std::memory_order_acquire) >> 32;
            }
            if (epoch == seen) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleepers_.fetch_add(1);
                while ((epoch = ticket_.load() >> 32) == seen) awake_.wait(lock);
                sleepers_.fetch_sub(1);
            }
            seen = epoch;
            while (take(epoch)) {}
        }
    }

    void hire(int workers) {
        for (; workers_ < workers; ++workers_) {
#if !defined(_WIN32)
            sigset_t all, before; // signals are for the threads of the program
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
            bool hired = true;
            try {
                std::thread([this] { work(); }).detach();
            } catch (const std::system_error&) { // no more threads to be had: do with those there are
                hired = false;
            }
#if !defined(_WIN32)
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
            if (!hired) return;
        }
    }

    void wake(int workers) {
        if (sleepers_.load() == 0) return;
        { std::lock_guard<std::mutex> lock(sleep_); }
        for (int k = 0; k < workers; ++k) awake_.notify_one();
    }

    std::mutex turn_, sleep_;
    std::condition_variable awake_;
    std::atomic<int> sleepers_{0};
    std::atomic<uint64_t> ticket_{0}; // epoch of the job, and its next part
    std::atomic<int64_t> parts_{0}, done_{0};
    std::atomic<Part> part_{nullptr};
    std::atomic<void*> context_{nullptr};
    int workers_ = 0;
    bool borrows_ = false;
    std::thread::id caller_;
    Clock::time_point begun_, alone_until_;
    std::chrono::nanoseconds on_core_{0}, worked_{0};
};

// The team of this process. It is never deleted: its threads may outlive the interpreter. Nothing
// here takes a lock, so that a fork at any moment finds none taken.
inline std::atomic<Team*> the_team{nullptr};
inline std::atomic<int> owner{0};

inline Team& team() {
    const int here = process();
    if (owner.load() != here) { // the first call, or a forked child, which leaves the old team alone
        the_team.store(new Team);
        owner.store(here);
    }
    return *the_team.load();
}

// Call f(0), ..., f(parts - 1) in at most so many threads.
template <class F> void parallel(int64_t parts, int threads, F& f) {
    if (threads < 2 || parts < 2) {
        for (int64_t k = 0; k < parts; ++k) f(k);
    } else {
        team().run(parts, threads, [](void* context, int64_t k) { (*static_cast<F*>(context))(k); }, &f);
    }
}

} // namespace softperm
