"""Random SIGKILL while loading, training, evaluating and saving: no run is lost, the adapter is the same to the last bit."""
import signal
import time

import rows
import runs

TITLE = "random SIGKILL"


def run(context):
    started = time.monotonic()
    wanted = context.count(100, 1000, 16)
    with context.bench() as bench:
        expected = bench.undisturbed()
        usual = min(bench.undisturbed().ended.seconds, expected.ended.seconds)
        draw = context.generator("row 1")

        def case(moments):
            out, kills, begun = bench.place(), 0, False
            for moment in moments:
                running = bench.start("--config", bench.config, "--output_dir", out)
                time.sleep(moment)
                running.send(signal.SIGKILL)
                ended = running.wait()
                runs.check_end(ended, kill_sent=True)
                if not ended.killed:
                    if ended.code != runs.DONE:
                        raise runs.Broken(ended.said())
                    break  # it was quicker
                kills += 1
                begun = begun or bool(runs.steps_of(out))
            bench.finish(out, expected)
            bench.done_with(out)
            return kills, begun

        # A run may be done before its kill comes: more runs are begun until all kills met a running program.
        kills, begun, runs_made, broken = 0, 0, 0, []
        while kills < wanted and not broken and runs_made < 20 * wanted:
            cases, planned = [], 0
            while planned < wanted - kills:  # the times of the kills of one run
                cases.append([draw.uniform(0.05, 0.95) * usual for _ in range(draw.randint(1, 6))])
                planned += len(cases[-1])
            found, broken = context.each(cases, case)
            kills += sum(one[0] for one in found if one)
            begun += sum(one[1] for one in found if one)
            runs_made += len(cases)
    if kills < wanted and not broken:
        broken.append(f"only {kills} kills met a running program, {wanted} were wanted")
    return rows.figures(started, broken, f"{kills} kills of {runs_made} runs, {begun} of them after a checkpoint")
