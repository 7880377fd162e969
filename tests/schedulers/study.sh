# The study of the scripts in this folder: 4 runs of a small network on the embedded recordings.

make_study() {
    cat > "$1/small.toml" << 'EOF'
name = "small"
blocks = { rule = "custom", start = 8, depth = 6 }
head = { dropout = 0.2 }
EOF
    cat > "$1/study.toml" << 'EOF'
networks = ["small.toml"]
variants = ["do", "bn"]
seeds = 2
[set]
epochs = 3
EOF
}

# Fails unless the reports of the folders $2 and $3 are equal in everything but time.
same_table() {
    for runs in "$2" "$3"; do
        "$1" study report study.toml --runs "$runs" --json | sed 's/"seconds":[^,}]*/"seconds":0/g' > "$runs.json"
    done
    if ! cmp "$2.json" "$3.json" || ! grep -q '"missing":\[\]' "$2.json"; then
        echo "the tables differ"
        return 1
    fi
    echo "passed: both tables are equal"
}
