from benchmarks.part import Part
PART = Part("peers","x",180,lambda b: [])
