# The study of the scripts in this folder: 4 runs of a small network on the embedded recordings.

make_study() {
    cat > "$1/small.toml" << 'EOF'
name = "small"
head = { dropout = 0.2 }
block = [
    { conv = 4, kernel = 9, stride = 8, pool = 4 },
    { conv = 8, kernel = 5, pool = 4 },
    { conv = 8, kernel = 5, pool = 4 },
]
EOF
    cat > "$1/study.toml" << 'EOF'
networks = ["small.toml"]
classes = ["bed", "cat", "one", "six"]
variants = ["do", "bn"]
seeds = 2
[set]
epochs = 8
EOF
}

# Fails unless the reports of the folders $2 and $3 are equal in everything but time.
same_table() {
    for runs in "$2" "$3"; do
        "$1" study report study.toml --runs "$runs" --json | sed 's/"seconds": .*/"seconds": 0/' > "$runs.json"
    done
    if ! cmp "$2.json" "$3.json" || ! grep -q '"conditions": "Runs finished: 4 of 4\.' "$2.json"; then
        echo "the tables differ"
        return 1
    fi
    echo "passed: both tables are equal"
}
