#!/usr/bin/env bash
# All that an accelerator is to measure, in slices that resume.
#
#   bash scripts/accelerator.sh --output=runs/accelerator --data_dir=DATA --kodak=KODAK      # the same again goes on
#   bash scripts/accelerator.sh --output=... train-mnist fid-cifar10                         # these slices alone
#   bash scripts/accelerator.sh --list                                                       # their commands
#
# A call runs slices one after another for --seconds (560) and stops what is at work then: trainings save and the
# codec's bench keeps its rows, so the next call goes on there; the benchmarks take less than a call each and begin anew.
# What is finished has a file in OUTPUT/done/ and is not run again. Rows go to OUTPUT/*.jsonl, runs to OUTPUT/runs/.
# Exit code: 0 all is done, 75 call again, 1 a slice failed (OUTPUT/logs/ says why; the others went on).
#
# On a CPU, or with --small, every slice is run at a size of seconds, to see that it works: those numbers mean nothing.
# PYTHON chooses the interpreter; PEAK_TFLOPS the device's rate in bfloat16 (989: H100 SXM and H200, dense).
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

output=runs/accelerator data_dir="" kodak="" seconds=560 small="" list="" wanted=()
for word in "$@"; do
    case "$word" in
    --output=*) output=${word#*=} ;;
    --data_dir=*) data_dir=${word#*=} ;;
    --kodak=*) kodak=${word#*=} ;;
    --seconds=*) seconds=${word#*=} ;;
    --small) small=1 ;;
    --list) list=1 ;;
    -*)
        echo "accelerator.sh: unknown option $word (see the head of the file)" >&2
        exit 2
        ;;
    *) wanted+=("$word") ;;
    esac
done
python=${PYTHON:-python}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
if [ -z "$small" ] && [ "$("$python" -c 'import jax; print(jax.default_backend())')" = cpu ]; then
    small=1
fi
[ -n "$data_dir" ] && export DFM_DATA_DIR=$data_dir
kodak=${kodak:-KODAK}
runs=$output/runs

slices=() # their names; the command of slice NAME is in ${command[NAME]}
declare -A command
slice() {
    slices+=("$1")
    command[$1]="$python ${*:2}"
}

if [ -n "$small" ]; then
    slice layer scripts/bench_fourier_layer.py --widths=2 --net_width=2 --net_depth=2 --points=64 --repeats=1 \
        --output="$output/layer.jsonl"
    slice step scripts/bench_train.py --alone --config=mnist --batch_size=4 --steps=1 --repeats=1 \
        --output="$output/step.jsonl"
    for method in encode decode; do
        slice "vae-$method-16" scripts/bench_autoencoder.py --variant=tiny --sizes=16 --methods=$method \
            --dtype=bfloat16 --repeats=1 --output="$output/vae.jsonl"
    done
    slice fid-network scripts/bench_fid.py --pictures=2 --batch_size=2 --repeats=1 --output="$output/fid_network.jsonl"
    slice kodak -m dfm.compress bench tests/golden --pictures=v1_picture_float16_cas --codecs=dfm-latents,dfm-weights,jpeg --rates=8 \
        --effort=1 --output="$output/kodak.json"
    slice train-digits -m dfm.train --config=configs/dfm_digits.py:quick --config.total_steps=20 --workdir="$runs/digits"
    slice fd-digits -m dfm.evaluate --workdir="$runs/digits" --metrics=fd-digits --num_samples=64 \
        --reference=digits:test --output="$output/evaluate.jsonl"
    slice table scripts/table_autoencoders.py --dataset=digits --budget=quick --rows=pca --workdir="$runs/table" \
        --output="$output/table.jsonl"
    slice study scripts/study_cifar10.py --size=trial --only=pca-110 --slices=train --workdir="$runs/study" \
        --output="$output/study.jsonl"
else
    peak="--peak_tflops=${PEAK_TFLOPS:-989}"
    slice layer scripts/bench_fourier_layer.py --points=262144 --output="$output/layer.jsonl"
    slice step scripts/bench_train.py --alone --steps=100 --output="$output/step.jsonl"
    for size in 512 1024 2048; do
        for method in encode decode; do
            slice "vae-$method-$size" scripts/bench_autoencoder.py --sizes=$size --methods=$method --dtype=bfloat16 \
                "$peak" --output="$output/vae.jsonl"
        done
    done
    slice fid-network scripts/bench_fid.py --pictures=2048 --batch_size=256 --output="$output/fid_network.jsonl"
    slice kodak -m dfm.compress bench "$kodak" --protocol=kodak --codecs=jpeg,jpeg-opt,webp,avif,dfm-latents,dfm-weights \
        --rates=0.15,0.3,0.6,1.0 --effort=7 --output="$output/kodak.json" --plot="$output/kodak.png"
    for name in digits mnist cifar10; do
        slice "train-$name" -m dfm.train --config=configs/dfm_$name.py --workdir="$runs/$name"
    done
    slice train-vae -m dfm.train --config=configs/autoencoder_kl_imagenet.py:cifar10 --workdir="$runs/vae"
    slice fid-cifar10 -m dfm.evaluate --workdir="$runs/cifar10" --metrics=fid,kid --protocol=fid-50k \
        --reference=cifar10:train --prior=gaussian,gmm --output="$output/evaluate.jsonl"
    for effort in 3 5; do
        slice "latents-$effort" scripts/rate_distortion_latents.py "$kodak" --protocol=kodak-8 --effort=$effort \
            --batch-pixels=4194304 --fits="$runs/fits" --output="$output/latents_$effort.json.rows.jsonl"
    done
    # the feature network in float32 is most of these: more rows at once gain nothing, and lack memory
    slice table-mnist scripts/table_autoencoders.py --dataset=mnist --budget=full --jobs=3 --workdir="$runs/table" \
        --output="$output/table.jsonl"
    slice table-cifar10 scripts/table_autoencoders.py --dataset=cifar10 --budget=full --jobs=3 --workdir="$runs/table" \
        --output="$output/table.jsonl"
    for size in small wide; do
        slice "study-$size" scripts/study_cifar10.py --size=$size --workdir="$runs/study-$size" \
            --output="$output/study.jsonl"
    done
    slice fid-vae -m dfm.evaluate --workdir="$runs/vae" --metrics=psnr,rfid --reference=cifar10:test \
        --output="$output/evaluate.jsonl"
fi

[ ${#wanted[@]} -eq 0 ] && wanted=("${slices[@]}")
for name in "${wanted[@]}"; do
    if [ -z "${command[$name]:-}" ]; then
        echo "accelerator.sh: no slice $name (there are: ${slices[*]})" >&2
        exit 2
    fi
    [ -n "$list" ] && echo "$name: ${command[$name]}"
done
[ -n "$list" ] && exit 0

mkdir -p "$output/done" "$output/logs" || exit 1
failed="" unfinished="" deadline=$((SECONDS + seconds))
for name in "${wanted[@]}"; do
    [ -e "$output/done/$name" ] && continue
    left=$((deadline - SECONDS))
    if [ $left -le 0 ]; then
        unfinished="$unfinished $name"
        continue
    fi
    began=$SECONDS
    # a training gets 25 s to save; timeout's own code is 124, whatever the command makes of the signal
    timeout --kill-after=25 $left bash -c "exec ${command[$name]}" >>"$output/logs/$name.log" 2>&1 </dev/null
    code=$?
    case $code in
    0)
        touch "$output/done/$name"
        echo "$name: done, $((SECONDS - began)) s"
        ;;
    124 | 137)
        unfinished="$unfinished $name"
        echo "$name: goes on with the next call, $((SECONDS - began)) s so far"
        ;;
    *)
        failed="$failed $name"
        echo "$name: failed with code $code: $(tail -n 1 "$output/logs/$name.log")"
        ;;
    esac
done
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$unfinished" ] || echo "left:$unfinished"
[ -z "$failed" ] || exit 1
[ -z "$unfinished" ] || exit 75
