// One team of threads for everything: parts of some work are taken by whoever is awake. As a rule
// a thread begins with the same share in every job of as many parts, for it has in its caches what the
// job before left there, and goes on with what others have not taken of theirs.
//
// Where PyTorch's threads come from OpenMP they are borrowed: they stay awake for some milliseconds
// after every operation, and would keep the cores from threads of our own. Elsewhere the threads are
// our own. In a forked child neither exist any more, so it makes new ones of our own.
//
// OpenMP waits for every thread, we for those that have begun. Where other programs keep the cores busy
// that may take long, and the caller does without the team for a while: unless what took long was the
// work of one thread, which had a core and more to do than the others.
#pragma once

#include <algorithm>
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
#include <ctime>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace softperm {

// How compiled OpenMP code starts threads, set when the library is loaded; null without OpenMP. It is
// for the process that loaded it alone.
using OpenMP = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
inline OpenMP openmp = nullptr;
inline int openmp_process = 0;

using Clock = std::chrono::steady_clock;

// time_on_core: for how long this thread has had a core; where that is told roughly, as if always.
#if defined(_WIN32)
inline int process() { return _getpid(); }
inline int64_t threads_of_process() { return 0; }
inline Clock::duration time_on_core() { return Clock::now().time_since_epoch(); }
#else
inline int process() { return int(getpid()); }
inline int64_t threads_of_process() {
    struct stat tasks;
    return stat("/proc/self/task", &tasks) == 0 ? int64_t(tasks.st_nlink) - 2 : 0;
}
inline Clock::duration time_on_core() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}
#endif

class Team {
  public:
    using Part = void (*)(void* context, int64_t part);

    // Call part(context, 0), ..., part(context, parts - 1), in at most so many threads.
    void run(int64_t parts, int threads, Part part, void* context) {
        std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
        // Alone where another thread of the program has the team, or the cores are busy.
        if (!turn.try_lock() || Clock::now() < alone_until_) {
            for (int64_t k = 0; k < parts; ++k) part(context, k);
            return;
        }
        part_ = part;
        context_ = context;
        shares_ = std::min(threads, MOST_SHARES);
        for (int k = 0; k < shares_; ++k) {
            share_[k].next = parts * k / shares_;
            share_[k].end = parts * (k + 1) / shares_;
            share_[k].worked = Clock::duration::zero();
        }
        caller_ = std::this_thread::get_id();
        const bool borrowed = may_borrow(threads);
        if (!borrowed) hire(threads - 1);
        const Clock::time_point begun = Clock::now();
        if (borrowed) { // all that PyTorch uses, for it would make new ones after a change
            openmp([](void* team) { static_cast<Team*>(team)->take_all(); }, this, unsigned(threads), 0);
        } else {
            open(true);
            take_all();
            open(false);
        }
        const Clock::time_point end = Clock::now();
        Clock::duration longest{};
        for (int k = 0; k < shares_; ++k) longest = std::max(longest, share_[k].worked.load());
        const Clock::duration lost = end - begun - longest;
        if (lost > 2 * longest + std::chrono::milliseconds(1)) alone_until_ = end + PATIENCE * lost;
    }

  private:
    static constexpr int MOST_SHARES = 64;
    static constexpr int SPINS = 2000; // some tens of microseconds
    static constexpr int PATIENCE = 20; // so many times what was lost, the caller is alone

    // Whether OpenMP's threads are there. Looking for them costs as much as a tiny matrix: only until
    // they have been seen.
    bool may_borrow(int threads) {
        if (openmp && !borrows_ && process() == openmp_process) borrows_ = threads_of_process() - hired_ >= threads;
        return borrows_;
    }

    void take_all() {
        const bool is_caller = std::this_thread::get_id() == caller_;
        auto time = [&] { return is_caller ? Clock::now().time_since_epoch() : time_on_core(); };
        const Clock::duration before = time();
        const int own = is_caller ? 0 : 1 + worker_number() % (shares_ - 1);
        for (int k = 0; k < shares_; ++k) {
            Share& share = share_[(own + k) % shares_];
            for (int64_t i = share.next++; i < share.end; i = share.next++) part_(context_, i);
        }
        share_[own].worked = time() - before;
    }

    int worker_number() {
        static thread_local const int number = workers_++;
        return number;
    }

    // Let workers into the job; or no more of them, and wait for those that are in it.
    void open(bool is_open) {
        {
            std::lock_guard<std::mutex> lock(door_);
            is_open_ = is_open;
            if (is_open) ++job_;
        }
        if (is_open && sleepers_) awake_.notify_all();
        for (int spins = 0; !is_open && inside_;) {
            if (spins == SPINS) std::this_thread::yield();
            else ++spins, pause();
        }
    }

    void work() {
        for (uint64_t seen = 0;;) {
            for (int spins = 0; job_ == seen && spins < SPINS; ++spins) pause();
            {
                std::unique_lock<std::mutex> lock(door_);
                ++sleepers_;
                awake_.wait(lock, [&] { return is_open_ && job_ != seen; });
                --sleepers_;
                seen = job_;
                ++inside_;
            }
            take_all();
            --inside_;
        }
    }

    void hire(int workers) {
        for (; hired_ < workers; ++hired_) {
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

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    std::mutex turn_, door_;
    std::condition_variable awake_;
    bool is_open_ = false, borrows_ = false;
    std::atomic<uint64_t> job_{0};
    std::atomic<int> sleepers_{0}, inside_{0}, workers_{0};
    struct alignas(64) Share {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
        std::atomic<Clock::duration> worked{}; // by the thread that began with it
    } share_[MOST_SHARES];
    int shares_ = 0;
    Part part_ = nullptr;
    void* context_ = nullptr;
    int hired_ = 0;
    std::thread::id caller_;
    Clock::time_point alone_until_;
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
